#!/bin/sh
# Build the site from docs/ into build/docs. A warning is an error. Nothing is fetched but the tools,
# and these only if they are missing.

set -eu
cd "$(dirname "$0")/.."

BIN=.venv/bin
"$BIN/python" -c 'import sphinx, furo, sphinx_copybutton' 2>/dev/null ||
    "$BIN/python" -m pip -q --disable-pip-version-check install -e '.[docs]'
"$BIN/python" -m sphinx -q -W --keep-going -b html docs build/docs
echo "the site: build/docs/index.html"
