# What tools/test.sh and tools/matrix.sh share: a step and its line of output, the Pythons of this
# machine, and environments that are kept. Both source this file in the checkout's folder, and set
# LOG, the file for the output of the present step, and failed, which collects names.
# shellcheck shell=sh

# step NAME COMMAND...: run it quietly, say how long it took, and show its output if it fails.
step() {
    name=$1
    shift
    began=$(date +%s)
    if "$@" >"$LOG" 2>&1 </dev/null; then
        printf '%-14s ok      %3d s  %s\n' "$name" $(($(date +%s) - began)) "$(tail -n 1 "$LOG")"
    else
        printf '%-14s FAILED  %3d s\n' "$name" $(($(date +%s) - began))
        cat "$LOG"
        failed="$failed $name,"
    fi
}

# The version of the Python in .venv.
main_version() {
    .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# The interpreter of a version, on PATH, among those of pyenv or in .venv; nothing if there is none.
interpreter() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1" \
        ".venv/bin/python$1"; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

# The versions from 3.10 to 3.13 that this machine has, the oldest first.
versions() {
    for version in 3.10 3.11 3.12 3.13; do
        [ -z "$(interpreter "$version")" ] || printf '%s\n' "$version"
    done
}

# environment FOLDER INTERPRETER ARGUMENT...: an environment with what these arguments of pip name.
# It is kept until they, the interpreter or pyproject.toml change.
environment() {
    venv=$1 python=$2
    shift 2
    want=$(cat pyproject.toml setup.py | cksum; "$python" -V; printf '%s\n' "$@")
    if [ "$want" = "$(cat "$venv/setup.stamp" 2>/dev/null)" ]; then
        return
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv" &&
        "$venv/bin/python" -m pip -q --disable-pip-version-check install "$@" &&
        printf '%s\n' "$want" >"$venv/setup.stamp"
}
