#!/bin/sh
# Write requirements/*.lock anew, and refuse one that names a host or a folder of this machine.
set -eu
uv=.venv/bin/uv

compile() {
    out=$1
    shift
    "$uv" pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --output-file "requirements/$out" "$@" >/dev/null
}

echo uv | compile bootstrap.lock -
compile demo.lock pyproject.toml --extra demo
compile dev.lock pyproject.toml --extra client --extra demo --extra dynamodb --extra mlflow --extra pandas --extra polars --extra postgres --extra redis --extra server --extra testing --group dev
compile lowest.lock pyproject.toml --extra client --extra dynamodb --extra pandas --extra polars --extra postgres --extra redis --extra server --extra testing --group xdist --group emulators --resolution lowest-direct
for engine in spark sail; do # beside the same DuckDB and pyarrow as the rest of the tests
    compile $engine.lock pyproject.toml --constraint requirements/dev.lock --extra dynamodb --extra pandas --extra polars --extra postgres --extra redis --extra server --extra testing --group xdist --group emulators --group $engine
done
echo "feast[duckdb,redis]" | compile peers.lock -
printf "%s\n" mkdocs-material "mkdocstrings[python]" ruff | compile site.lock -

if grep -nE '://|file:|@ |(^| )/' requirements/*.lock; then
    echo "a lock file names a host or a folder" >&2
    exit 1
fi
