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

# full_version INTERPRETER: such as 3.11.2; nothing if it cannot make environments.
full_version() {
    "$1" -c 'import ensurepip, sys, venv; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

SYSTEM_PYTHON=/usr/bin/python3

# The version of the system's own Python, such as 3.11.2, if it is another one than interpreter finds for
# 3.11. Debian's may have bugs that a later release of the same Python has not.
system_version() {
    own=$(full_version "$SYSTEM_PYTHON") || return 0
    case $own in 3.1[0-3].*) ;; *) return 0 ;; esac
    [ "$own" = "$(full_version "$(interpreter "${own%.*}")")" ] || printf '%s\n' "$own"
}

# The interpreter of a version, on PATH, among those of pyenv or in .venv, or the system's own, if its
# whole version is named; nothing if there is none.
interpreter() {
    if [ "$1" = "$(full_version "$SYSTEM_PYTHON")" ]; then
        echo "$SYSTEM_PYTHON"
        return
    fi
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
    want=$(cksum <pyproject.toml; "$python" -V; printf '%s\n' "$@")
    if [ "$want" = "$(cat "$venv/setup.stamp" 2>/dev/null)" ]; then
        return
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv" &&
        "$venv/bin/python" -m pip -q --disable-pip-version-check install "$@" &&
        printf '%s\n' "$want" >"$venv/setup.stamp"
}
