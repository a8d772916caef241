#!/bin/sh
# Everything that has to hold, in three lanes at once, as tests mostly wait for RabbitMQ: two halves
# of the tests on the Python of .venv, of which the shorter one goes on with the broker tests on
# pika's public interface alone (MIROS_RABBITMQ_IO=plain); and lint, types, the unit tests on every
# other Python from 3.10 to 3.13 that this machine has, and the short matrix (tools/matrix.sh). The
# output comes lane by lane at the end, some twenty minutes later; pytest's closing lines end it.
# Arguments: what lint and types look at. Run "make test", which sets up.

set -u
cd "$(dirname "$0")/.."
. tools/steps.sh

BIN=.venv/bin
LOG=.venv/test.log        # of the present step of the others
OTHERS=.venv/others.log   # what became of them
TESTS=.venv/pytest-       # the tests on the main Python: two halves, and plain I/O
failed=

# unit_tests_on VERSION: with the newest releases of what the package needs.
unit_tests_on() {
    environment ".venv/py$1" "$(interpreter "$1")" -e '.[unit]' || return
    ".venv/py$1/bin/python" -m pytest -q tests/unit
}

# Everything that needs no RabbitMQ or little of it; it leaves one core to what does.
others() {
    step lint "$BIN/ruff" check "$@"
    step format "$BIN/ruff" format --check "$@"
    step types "$BIN/mypy" "$@"
    # The newest one belongs to the matrix, with the same releases.
    for version in $(versions | sed '$d'); do
        [ "$version" = "$(main_version)" ] || step "Python $version" unit_tests_on "$version"
    done
    tools/matrix.sh --short || failed="$failed the matrix,"
    [ -z "$failed" ]
}

# tests NAME FOLDER...: run the tests of these folders on the main Python.
tests() {
    log=$TESTS$1.log
    shift
    "$BIN/python" -m pytest --durations=10 --durations-min=1 "$@" >"$log" 2>&1 </dev/null
}

# The second half of them, and the broker tests once more.
two_and_plain() {
    tests two tests/examples tests/lan tests/unit || failed=two
    # Without what does not depend on how messages are written and read, or tries both by itself.
    MIROS_RABBITMQ_IO=plain tests plain tests/broker \
        --ignore=tests/broker/test_local_broker.py --ignore=tests/broker/test_mistakes.py \
        --ignore=tests/broker/test_rights.py --ignore=tests/broker/test_foreign_text.py \
        --ignore=tests/broker/test_false_brokers.py --ignore=tests/broker/test_impostors.py ||
        failed=plain
    [ -z "$failed" ]
}

echo "running lint, types and all tests; this takes about twenty minutes ..."
others "$@" >"$OTHERS" 2>&1 &
others=$!
two_and_plain &
two=$!
tests one tests/broker tests/faults || failed="$failed one half of the tests,"
wait "$two" || failed="$failed the other half of the tests or plain I/O,"
wait "$others" || failed="$failed others,"
cat "$OTHERS" "$TESTS"one.log "$TESTS"two.log "$TESTS"plain.log
[ -z "$failed" ] || printf 'FAILED: %s\n' "${failed%,}"
tail -qn 1 "$TESTS"one.log "$TESTS"two.log "$TESTS"plain.log
[ -z "$failed" ]
