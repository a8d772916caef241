#!/bin/sh
# Everything that has to hold, in three lanes at once, as tests mostly wait for RabbitMQ: two halves
# of the tests on the Python of .venv; and lint, types and the unit tests on every other Python from
# 3.10 to 3.13 that this machine has. The output comes lane by lane at the end, some four minutes
# later; pytest's closing lines end it. Arguments: what lint and types look at. Run "make test",
# which sets up.

set -u
cd "$(dirname "$0")/.."

BIN=.venv/bin
LOG=.venv/test.log        # of the present step of the others
OTHERS=.venv/others.log   # what became of them
HALF=.venv/pytest-        # the tests on the main Python, in two halves
failed=

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

# The interpreter of a version, on PATH or among those of pyenv; nothing if there is none.
interpreter() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

# unit_tests_on VERSION INTERPRETER: in an environment that is kept until pyproject.toml changes.
unit_tests_on() {
    venv=.venv/py$1
    want=$(cat pyproject.toml setup.py | cksum; "$2" -V)
    if [ "$want" != "$(cat "$venv/setup.stamp" 2>/dev/null)" ]; then
        rm -rf "$venv"
        "$2" -m venv "$venv" || return
        "$venv/bin/python" -m pip -q --disable-pip-version-check install -e '.[unit]' || return
        printf '%s\n' "$want" >"$venv/setup.stamp"
    fi
    "$venv/bin/python" -m pytest -q tests/unit
}

# Everything that needs no RabbitMQ; it leaves one core to what does.
others() {
    step lint "$BIN/ruff" check "$@"
    step format "$BIN/ruff" format --check "$@"
    step types "$BIN/mypy" "$@"
    main=$("$BIN/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    for version in 3.10 3.11 3.12 3.13; do
        [ "$version" != "$main" ] || continue
        python=$(interpreter "$version")
        [ -z "$python" ] || step "Python $version" unit_tests_on "$version" "$python"
    done
    [ -z "$failed" ]
}

# half NAME FOLDER...: run the tests of these folders.
half() {
    log=$HALF$1.log
    shift
    "$BIN/python" -m pytest --durations=10 --durations-min=1 "$@" >"$log" 2>&1 </dev/null
}

echo "running lint, types and all tests; this takes about four minutes ..."
others "$@" >"$OTHERS" 2>&1 &
others=$!
half two tests/examples tests/lan tests/unit &
two=$!
half one tests/broker tests/faults || failed="$failed one half of the tests,"
wait "$two" || failed="$failed the other half of the tests,"
wait "$others" || failed="$failed others,"
cat "$OTHERS" "$HALF"one.log "$HALF"two.log
[ -z "$failed" ] || printf 'FAILED: %s\n' "${failed%,}"
tail -qn 1 "$HALF"one.log "$HALF"two.log
[ -z "$failed" ]
