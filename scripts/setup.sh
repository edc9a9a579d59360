#!/bin/sh
# Makes .venv with Segue (editable), its extras and the development tools, at the versions of constraints.txt.
# Needs Python 3.11 or newer; installs Debian's venv package by itself when root.
set -eu

cd "$(dirname "$0")/.."

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: no Python 3.11 or newer found (tried python3, python3.13, python3.12, python3.11)" >&2
    echo "setup: install one, on Debian 12 or newer with: sudo apt-get install python3 python3-venv" >&2
    exit 1
}

# Debian's Python comes without ensurepip unless its venv package is there.
require_venv_module() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y "$package" >&2
    else
        echo "setup: $1 cannot make virtual environments; install its part for that: sudo apt-get install $package" >&2
        exit 1
    fi
}

if ! is_new_enough .venv/bin/python; then
    python=$(find_python)
    require_venv_module "$python"
    echo "setup: making .venv with $python" >&2
    "$python" -m venv --clear .venv
fi

echo "setup: installing Segue and its tools into .venv" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable '.[fast,lite,k8s,agentdb,langchain,llama-index,ray,dev]'
