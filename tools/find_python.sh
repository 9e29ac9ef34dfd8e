#!/bin/sh
# Prints a working Python of the wanted version, or nothing: sh tools/find_python.sh 3.11
for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python python3 python; do
    if "$candidate" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done
