#!/bin/sh
# The broker tests on Debian 13 (trixie), whose RabbitMQ 4.0, Erlang 27 and Python 3.13 may all be
# other than this machine's. Makes a small Debian 13 in a folder, sets up a copy of this checkout in
# it, and runs pytest there. Arguments: what pytest is to run, tests/broker if there are none; and
# "--clean" removes the folder.
#
# Needs root, as it mounts and changes the root folder, and a Debian or a relative of it. The mirror
# is the one that the machine's apt uses for Debian, or debootstrap's default. Handed on to the tests
# are the variables PIP_*, MIROS_* and the proxies; and certificates that the administrator has
# added to the machine's are trusted.
#
# TRIXIE_ROOT names the folder, which is kept for the next run (1 GB). It is made anew when the list
# of packages changes; "make clean" removes it.
#
# Mounts, processes and network belong to namespaces that end with this program, in whatever way it
# ends. In a network of its own, no program of this machine helps the tests or disturbs them: with
# an epmd of the machine, say, a node would be found that is lost without.

set -eu
cd "$(dirname "$0")/.."

SUITE=trixie
PACKAGES=ca-certificates,git,iproute2,make,python3,python3-venv,rabbitmq-server
ROOT=${TRIXIE_ROOT:-/var/cache/miros-rabbitmq/$SUITE}
COPY=root/miros-rabbitmq # in that folder

NAME=trixie
. tools/root.sh

# Everything in the checkout that git knows or would know, so that what is not committed is tested.
copy_checkout() {
    mkdir -p "$ROOT/$COPY"
    # Its environment stays, so that nothing is to be set up if nothing has changed.
    find "$ROOT/$COPY" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from - --ignore-failed-read 2>/dev/null |
        tar --extract --directory "$ROOT/$COPY" --no-same-owner
    use_network_settings
}

[ "${1-}" != --clean ] || { clean_root && exit; }

claim_root
make_root
copy_checkout
in_root "" sh -c 'update-ca-certificates >/dev/null 2>&1 && make setup'
# shellcheck disable=SC2016 # variables of the shell in there
in_root --net sh -c '
    ip link set lo up
    version() { dpkg-query --show --showformat "\${Version}" "$1"; }
    echo "trixie: RabbitMQ $(version rabbitmq-server), Erlang $(version erlang-base)," \
        "$(.venv/bin/python -V)"
    exec .venv/bin/python -m pytest -q "$@"' sh "${@:-tests/broker}"
