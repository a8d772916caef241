#!/bin/sh
# Everything that has to hold, in three lanes at once, as tests mostly wait for RabbitMQ: the broker
# tests; all other tests; and lint, types, the site, the unit tests on every other Python from 3.10
# to 3.13 that this machine has, and the short matrix (tools/matrix.sh). The first and the last lane
# share the broker tests on pika's public interface alone (MIROS_RABBITMQ_IO=plain). The output comes
# lane by lane at the end, some 25 minutes later; pytest's closing lines end it.
# Arguments: what lint and types look at. Run "make test", which sets up.

set -u
cd "$(dirname "$0")/.." || exit
. tools/steps.sh

BIN=.venv/bin
LOG=.venv/test.log        # of the present step of the others
OTHERS=.venv/others.log   # what became of them
TESTS=.venv/pytest-       # the tests on the main Python: broker, faults, plain0, plain1, and the rest
failed=

# unit_tests_on VERSION: with the newest releases of what the package needs.
unit_tests_on() {
    environment ".venv/py$1" "$(interpreter "$1")" -e '.[unit]' || return
    ".venv/py$1/bin/python" -m pytest -q tests/unit
}

# Everything that needs no RabbitMQ or little of it; it leaves one core to what does, and what is no
# test gives way to the tests of all lanes.
others() {
    step lint nice "$BIN/ruff" check "$@"
    step format nice "$BIN/ruff" format --check "$@"
    step types nice "$BIN/mypy" "$@"
    step site nice tools/docs.sh
    # The oldest and the newest belong to the matrix.
    for version in $(versions | sed '1d;$d'); do
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

# All but the broker tests.
rest() {
    tests rest tests/examples tests/lan tests/unit || failed=rest
    tests faults tests/faults || failed=faults
    [ -z "$failed" ]
}

# plain 0|1: half of the broker tests once more, on pika's public interface alone; without what does
# not depend on how messages are written and read, or tries both by itself.
plain() {
    # shellcheck disable=SC2046 # a list of files
    MIROS_RABBITMQ_IO=plain tests "plain$1" $(
        printf '%s\n' tests/broker/test_*.py |
            grep -v -e local_broker -e mistakes -e rights -e foreign_text -e false_brokers \
                -e impostors |
            awk "NR % 2 == $1"
    )
}

echo "running lint, types and all tests; this takes about 25 minutes ..."
{
    others "$@" >"$OTHERS" 2>&1
    status=$?
    plain 0 && [ "$status" = 0 ]
} &
others=$!
rest &
rest=$!
tests broker tests/broker || failed="$failed the broker tests,"
plain 1 || failed="$failed plain I/O,"
wait "$rest" || failed="$failed the other tests,"
wait "$others" || failed="$failed lint, types, other Pythons or plain I/O,"
set -- broker rest faults plain0 plain1
for part; do logs="${logs-} $TESTS$part.log"; done
# shellcheck disable=SC2086 # a list of files
cat "$OTHERS" $logs
[ -z "$failed" ] || printf 'FAILED: %s\n' "${failed%,}"
# shellcheck disable=SC2086
tail -qn 1 $logs
[ -z "$failed" ]
