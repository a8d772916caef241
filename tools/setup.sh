#!/bin/sh
# Set up this checkout: a virtual environment in .venv with the package, its test tools and what
# builds the site, and RabbitMQ from the distribution's packages if it is missing (its service is not
# started). And the program ip, if it can be had: some tests make networks with it, and are skipped
# without it.
#
# Needs Python >= 3.10; PYTHON=/path/to/python chooses one, otherwise it is the newest on PATH.
# Keeps what is there already, so that a second run has nothing to do. Details: .venv/setup.log.

set -eu
cd "$(dirname "$0")/.."

VENV=.venv
STAMP=$VENV/setup.stamp
LOG=$VENV/setup.log

say() { printf '%s\n' "setup: $*"; }

fail() {
    printf '%s\n' "setup: $*" >&2
    exit 1
}

# logged COMMAND...: run it quietly; if it fails, show what it said and fail.
logged() {
    printf '\n$ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null && return
    printf '%s\n' "setup: failed: $*; the end of $LOG:" >&2
    tail -n 25 "$LOG" >&2
    exit 1
}

have_rabbitmq() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1
}

have_ip() {
    [ -x /usr/sbin/ip ] || [ -x /sbin/ip ] || command -v ip >/dev/null 2>&1
}

# What the environment was made from, and by which Python: if the stamp differs, make it anew.
stamp() {
    cat pyproject.toml tools/setup.sh | cksum
    printf '%s\n' "${PYTHON-}"
    "$VENV/bin/python" -V
}

find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3.10 python3}; do
        # A name on PATH may be a stub, such as those of pyenv for versions that are not chosen.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "no Python >= 3.10 found${PYTHON:+ in PYTHON=$PYTHON}. Please install one" \
        "(on Debian: apt-get install python3) or name it: make setup PYTHON=/path/to/python3"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }
}

allow_services() {
    [ -z "${POLICY-}" ] || as_root rm -f "$POLICY"
    POLICY=
}

# install_packages PACKAGE...: from the distribution; services that come with them are not started.
install_packages() {
    say "installing $* from the distribution's packages ..."
    had_rabbitmq=false had_erlang=false
    ! have_rabbitmq || had_rabbitmq=true
    ! command -v epmd >/dev/null 2>&1 || had_erlang=true
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        POLICY=/usr/sbin/policy-rc.d
        trap allow_services EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        printf '#!/bin/sh\nexit 101\n' >"$VENV/policy-rc.d"
        as_root install -m 755 "$VENV/policy-rc.d" "$POLICY"
        rm "$VENV/policy-rc.d"
    fi
    # The package lists may be missing or old: fetch them only if the installation fails without.
    apt_install "$@" || { logged as_root apt-get update && logged apt_install "$@"; }
    allow_services
    trap - EXIT INT TERM HUP
    # Only its programs are needed: the services must not start with the machine from now on.
    if have_rabbitmq && ! $had_rabbitmq; then
        as_root update-rc.d rabbitmq-server disable >>"$LOG" 2>&1 || true
        as_root systemctl disable rabbitmq-server.service >>"$LOG" 2>&1 || true
        $had_erlang || as_root systemctl disable epmd.service epmd.socket >>"$LOG" 2>&1 || true
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@" >>"$LOG" 2>&1 </dev/null
}

if [ -x "$VENV/bin/python" ] && have_rabbitmq && [ "$(stamp)" = "$(cat "$STAMP" 2>/dev/null)" ]; then
    exit 0
fi

python=$(find_python)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "$VENV"
date >"$LOG"

missing=
# Debian keeps the module that venv needs in a package of its own.
"$python" -c 'import ensurepip, venv' 2>>"$LOG" || missing="python$version-venv"
have_rabbitmq || missing="${missing:+$missing }rabbitmq-server"
if [ -n "$missing" ]; then
    may_install || fail "please install $missing first, for example:" \
        "sudo apt-get install --no-install-recommends $missing"
    # shellcheck disable=SC2086 # a list of words
    install_packages $missing
fi
if may_install && ! have_ip; then
    (install_packages iproute2) 2>>"$LOG" ||
        say "it cannot be had: the tests that make networks of their own will be skipped"
fi

if [ -x "$VENV/bin/python" ] && [ "$("$VENV/bin/python" -V 2>&1)" != "$("$python" -V)" ]; then
    # shellcheck disable=SC2115 # VENV is never empty
    rm -rf "$VENV/bin" "$VENV/lib" "$VENV/lib64" "$VENV/include" "$VENV/pyvenv.cfg"
fi
say "making .venv with Python $version and what the package needs ..."
[ -x "$VENV/bin/pip" ] || logged "$python" -m venv "$VENV"
logged "$VENV/bin/python" -m pip --disable-pip-version-check install --editable '.[test,docs]'
stamp >"$STAMP"
say "done."
