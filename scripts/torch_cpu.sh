#!/bin/sh
# Install PyTorch for CPUs into the folder $1, for .venv's Python: what its page of the docs needs and nothing else does.
set -eu
folder=$1
[ ! -e "$folder/.stamp" ] || exit 0
version=2.13.0
python=${PYTHON_OF_VENV:-.venv/bin/python}
rm -rf "$folder.new"
mkdir -p "$(dirname "$folder")"

install() {
    "$python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --no-deps --target "$folder.new" "$@"
}

# The wheels for Linux that PyPI has bring 3 GB of CUDA. Those without are where pip's settings say, else at PyTorch's own
# index; where neither can be reached, PyPI's do.
install "torch==$version+cpu" 2>/dev/null ||
    install --index-url https://download.pytorch.org/whl/cpu --retries 1 --timeout 20 "torch==$version+cpu" 2>/dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check --target "$folder.new" "torch==$version"
# of what it needs the part that .venv lacks
install filelock fsspec mpmath networkx sympy
touch "$folder.new/.stamp"
rm -rf "$folder"
mv "$folder.new" "$folder"
