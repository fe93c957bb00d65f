#!/bin/sh
# Make the virtual environment $1 hold exactly the lock file $2, and this package in editable form (the peers' without it).
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
[ "$venv" != .venv-peers ] || exit 0
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps "$@"
