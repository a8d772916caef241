#!/bin/sh
# Fuzz every target of tests/fuzz, one after the other, on one core at low priority; a line for each.
# FUZZ_SECONDS is the time for each (600). Arguments name targets; default: all. Findings stay
# in .venv/fuzz/found, with the log of each target. Atheris lives in .venv/fuzz, and only there.

set -u
cd "$(dirname "$0")/.." || exit

VENV=.venv/fuzz
FOUND=$VENV/found
SECONDS_EACH=${FUZZ_SECONDS:-600}

if ! "$VENV/bin/python" -c 'import atheris, miros_rabbitmq' 2>/dev/null; then
    .venv/bin/python -m venv "$VENV" &&
        "$VENV/bin/python" -m pip -q --disable-pip-version-check install atheris -e . || exit
fi

status=0
mkdir -p "$FOUND"
[ $# -gt 0 ] || set -- message records window unpickler json frames url arp hosts_file cache_file
for target in "$@"; do
    log=$FOUND/$target.log
    nice -n 10 "$VENV/bin/python" -m tests.fuzz.drive "$target" "$FOUND/$target" "$SECONDS_EACH" \
        >"$log" 2>&1
    code=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ $code -eq 0 ]; then
        printf '%-10s ok      %12s executions\n' "$target" "${runs:-?}"
    else
        printf '%-10s FINDING %12s executions, see %s\n' "$target" "${runs:-?}" "$log"
        status=1
    fi
done
exit $status
