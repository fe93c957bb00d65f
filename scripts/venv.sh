#!/bin/sh
# Make the virtual environment $1 hold exactly the lock file $2, and this package in editable form (not for the peers and the site).
set -eu
venv=$1
lock=$2

fail() {
    echo "$*" >&2
    exit 1
}

find_python() {
    for python in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

# Debian leaves ensurepip, which venv needs, to a package of its own.
need_ensurepip() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv, which Debian keeps apart from Python" >&2
        apt-get update -qq
        apt-get install -y -qq python3-venv
        "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    fi
    fail "$1 cannot make virtual environments: run 'apt-get install python3-venv' as root, or name another Python: make PYTHON=/path/to/python3"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    [ -n "$python" ] || fail "headwater needs Python 3.11 or later: install it, or name it: make PYTHON=/path/to/python3"
    need_ensurepip "$python"
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/bootstrap.lock

# A proxy's certificate stands in the system's store, where there is one; uv looks only into its own unless told.
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || export UV_SYSTEM_CERTS=true

set -- --editable .
[ ! -e tests/plugin/pyproject.toml ] || [ "$venv" = .venv-demo ] || set -- "$@" --editable tests/plugin
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" "$lock"
case $venv in .venv-peers | .venv-site) exit 0 ;; esac
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps "$@"

# Every process of a test, a demo or a benchmark would otherwise compile what it imports, where PYTHONDONTWRITEBYTECODE
# is set: a second and more for each. What is imported is compiled here once; the rest of 13,000 files is not.
"$venv/bin/python" -m compileall -q -j 0 src tests/plugin/src
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" - <<'END'
import contextlib
import importlib

NAMES = """headwater.store headwater.async_store headwater.cli.application headwater.testing headwater.offline.engines
duckdb pyarrow.parquet pyarrow.dataset pyarrow.csv pyarrow.json sqlglot sqlalchemy sqlalchemy.dialects.sqlite sqlalchemy.dialects.postgresql
redis redis.asyncio botocore.session aiobotocore.session psycopg pandas polars moto.server hypothesis pytest"""
for name in NAMES.split():
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
END
