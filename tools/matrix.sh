#!/bin/sh
# The tests on both ends of what pyproject.toml allows: the oldest releases of our dependencies on
# the oldest Python of this machine, and the newest on the newest. And what pip installs of this
# checkout, against its files. Run "make matrix", which sets up.
#
# --short runs the unit tests and a few broker tests; tools/test.sh includes it. It leaves out the
# newest releases if .venv has the newest Python, as tools/test.sh runs every test there.
# MIROS_RABBITMQ_IO=plain is handed on, as any variable is.
#
# The oldest releases are the lower bounds in pyproject.toml. The newest are those of the day on
# which the environment was made: remove .venv/matrix-newest to have it made anew.

set -u
cd "$(dirname "$0")/.."
. tools/steps.sh

LOG=.venv/matrix.log
failed=

short=false
case ${1-} in
"") ;;
--short) short=true ;;
*)
    echo "usage: tools/matrix.sh [--short]" >&2
    exit 2
    ;;
esac

BROKER_TESTS=tests/broker
! $short || BROKER_TESTS="tests/broker/test_publisher_and_consumer.py tests/broker/test_charts.py"

# The lines of our dependencies in pyproject.toml, and of each its name and lower bound for pip.
dependencies() { sed -n '/^dependencies = \[/,/^\]/s/^ *"\(.*\)",$/\1/p' pyproject.toml; }
oldest_releases() { dependencies | sed -n 's/^\([A-Za-z0-9-]*\)>=\([0-9.]*\).*/\1==\2/p'; }

# made END VERSION ARGUMENT...: an environment with what these arguments name; say what is in it.
made() {
    end=$1 version=$2
    shift 2
    environment ".venv/matrix-$end" "$(interpreter "$version")" "$@" || return
    ".venv/matrix-$end/bin/python" -m pip --disable-pip-version-check list --format freeze |
        grep -E "^($names)==" | sed 's/==/ /' | paste -s -d , |
        sed "s/^/Python $version, /; s/,\\([^ ]\\)/, \\1/g"
}

# on END VERSION ARGUMENT...: the tests in such an environment.
on() {
    end=$1
    step "$end" made "$@"
    case $failed in *" $end,"*) return ;; esac
    step "$end, unit" ".venv/matrix-$end/bin/python" -m pytest -q tests/unit
    # shellcheck disable=SC2086 # a list of files
    step "$end, broker" ".venv/matrix-$end/bin/python" -m pytest -q $BROKER_TESTS
}

# What pip makes of a copy of the sources, in an environment that has nothing else. Of a copy, as
# setuptools would take in what an earlier build left in this folder.
installed() {
    copy=.venv/matrix-sources
    rm -rf "$copy"
    mkdir "$copy"
    cp -R pyproject.toml setup.py README.rst LICENSE miros_rabbitmq "$copy"
    # First what the package needs, and then the package itself, which is different each time.
    # shellcheck disable=SC2046 # a list of words
    environment .venv/matrix-installed "$1" $(dependencies) || return
    .venv/matrix-installed/bin/python -m pip -q --disable-pip-version-check \
        install --no-deps --force-reinstall "./$copy" || return
    .venv/matrix-installed/bin/python -I tools/installed.py miros_rabbitmq
}

names=$(oldest_releases | sed 's/==.*//' | paste -s -d '|')
if [ "$(oldest_releases | wc -l)" != "$(dependencies | wc -l)" ] || [ -z "$names" ]; then
    echo "matrix: each dependency in pyproject.toml has to begin like \"name>=1.2\"" >&2
    exit 1
fi
oldest=$(versions | head -n 1) newest=$(versions | tail -n 1)
if [ -z "$oldest" ]; then
    echo "matrix: found no Python from 3.10 to 3.13" >&2
    exit 1
fi

step installed installed "$(interpreter "$newest")"
# shellcheck disable=SC2046 # a list of words
on oldest "$oldest" -e '.[unit]' $(oldest_releases)
if ! $short || [ "$newest" != "$(main_version)" ]; then
    on newest "$newest" -e '.[unit]'
fi
[ -z "$failed" ] || printf 'FAILED: %s\n' "${failed%,}"
[ -z "$failed" ]
