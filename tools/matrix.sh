#!/bin/sh
# The tests on both ends of what pyproject.toml allows: the oldest releases of our dependencies on
# the oldest Python of this machine, and the newest on the newest. And on the system's own Python, if
# that is another patch release than the one that is tested for its version. And the wheel and the
# source distribution of this checkout: they are built, checked, installed into empty environments,
# compared with the files here, and tried; and the types that users see are complete. Run "make
# matrix", which sets up.
#
# --short runs the unit tests and a few broker tests (on the system's own Python, the unit tests of
# messages only), and installs the wheel on the newest Python only; tools/test.sh includes it. It
# leaves out the newest releases if .venv has the newest Python, as tools/test.sh runs every test
# there.
# MIROS_RABBITMQ_IO=plain is handed on, as any variable is.
#
# The oldest releases are the lower bounds in pyproject.toml. The newest are those of the day on
# which the environment was made: remove .venv/matrix-newest to have it made anew.

set -u
cd "$(dirname "$0")/.." || exit
. tools/steps.sh

LOG=.venv/matrix.log
COPY=.venv/matrix-sources
DIST=.venv/matrix-dist # what is built of it
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
UNIT_TESTS=tests/unit
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
    step "$end, unit" ".venv/matrix-$end/bin/python" -m pytest -q "$UNIT_TESTS"
    [ -n "$BROKER_TESTS" ] || return 0
    # shellcheck disable=SC2086 # a list of files
    step "$end, broker" ".venv/matrix-$end/bin/python" -m pytest -q $BROKER_TESTS
}

# The wheel and the source distribution, of a copy of the sources: setuptools would take in what an
# earlier build left in this folder. Both have to be fit for an index.
built() {
    rm -rf "$COPY" "$DIST"
    mkdir "$COPY"
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from - --ignore-failed-read 2>/dev/null |
        tar --extract --directory "$COPY" --no-same-owner
    .venv/bin/python -m build --outdir "$DIST" "$COPY" >/dev/null || return
    .venv/bin/python -m twine check --strict "$DIST"/* || return
    tar --list --gzip --file "$DIST"/*.tar.gz >"$DIST/contents"
    for wanted in CHANGELOG.rst docs/index.rst examples/factory.py miros_rabbitmq/py.typed \
        tests/conftest.py tools/setup.sh; do
        grep -q "^[^/]*/$wanted\$" "$DIST/contents" || { echo "the sdist lacks $wanted" && return 1; }
    done
    rm "$DIST/contents"
    ls "$DIST"
}

# installed VERSION KIND: the wheel or the sdist in an environment of this Python that has nothing
# else, against the sources; and two charts of it talk to each other.
installed() {
    # First what the package needs, and then the package itself, which is different each time.
    # shellcheck disable=SC2046 # a list of words
    environment ".venv/installed-$1" "$(interpreter "$1")" $(dependencies) || return
    ".venv/installed-$1/bin/python" -m pip -q --disable-pip-version-check \
        install --no-deps --force-reinstall "$DIST"/*"$2" || return
    ".venv/installed-$1/bin/python" -I tools/installed.py miros_rabbitmq
}

# Whether every name that users can see has a type, in the package as it is installed. pyright asks
# the first Python on PATH where that is. With stubs, as miros has no type hints of its own.
typed() {
    cp -R tools/stubs/miros-stubs ".venv/installed-$1/lib/python$1/site-packages/" || return
    bin=$PWD/.venv/bin
    (cd "$DIST" && PATH="$OLDPWD/.venv/installed-$1/bin:$PATH" \
        "$bin/python" -m pyright --verifytypes miros_rabbitmq --ignoreexternal >types) ||
        { grep -B 1 -A 1 error "$DIST/types"; return 1; }
    grep "Type completeness score: 100%" "$DIST/types"
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

step built built
case $failed in *" built,"*) ;; *)
    step installed installed "$newest" .whl
    step "types, users'" typed "$newest"
    if ! $short; then
        for version in $(versions | sed '$d'); do
            step "on $version" installed "$version" .whl
        done
        step "from sdist" installed "$oldest" .tar.gz
    fi
    ;;
esac
# shellcheck disable=SC2046 # a list of words
on oldest "$oldest" -e '.[unit]' $(oldest_releases)
if ! $short || [ "$newest" != "$(main_version)" ]; then
    on newest "$newest" -e '.[unit]'
fi
system=$(system_version)
if [ -n "$system" ]; then
    ! $short || UNIT_TESTS=tests/unit/wire BROKER_TESTS=
    on system "$system" -e '.[unit]'
fi
[ -z "$failed" ] || printf 'FAILED: %s\n' "${failed%,}"
[ -z "$failed" ]
