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

say() { printf '%s\n' "trixie: $*"; }

fail() {
    printf '%s\n' "trixie: $*" >&2
    exit 1
}

# The mirror from which apt has Debian itself, and not its security updates; nothing if apt has none.
mirror() {
    # shellcheck disable=SC2016 # names that apt-get fills in
    apt-get indextargets --format '$(ORIGIN)/$(LABEL)/$(COMPONENT) $(SITE)' 'Created-By: Packages' |
        sed -n 's|^Debian/Debian/main \(https\{0,1\}://.*\)|\1|p' | head -n 1
}

# The proxy that apt uses, for debootstrap: it knows only the variable.
use_proxy_of_apt() {
    apt_proxy=
    eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
    [ -z "$apt_proxy" ] || [ -n "${http_proxy-}" ] || export http_proxy="$apt_proxy"
}

# The keys of Debian 13 came to Debian 12 with an update of debian-archive-keyring.
install_debootstrap() {
    command -v apt-get >/dev/null || fail "needs apt-get, as on Debian, to get debootstrap"
    [ -e /usr/sbin/debootstrap ] && [ -e /usr/share/keyrings/debian-archive-$SUITE-stable.gpg ] ||
        quietly install apt_install || { quietly update apt-get update && quietly install apt_install; }
}

apt_install() {
    env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends debootstrap debian-archive-keyring
}

# quietly NAME COMMAND...: show what it says only if it fails.
quietly() {
    log=$ROOT.$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null && return
    printf '%s\n' "trixie: failed: $*; the end of $log:" >&2
    tail -n 25 "$log" >&2
    return 1
}

# What the root was made from, as its file "made-from" says when it is finished.
stamp() { printf '%s\n' "$SUITE $PACKAGES"; }

# Remove the root, if it is one: somebody may have named another folder.
remove_root() {
    [ -n "$(ls -A "$ROOT" 2>/dev/null)" ] || return 0
    [ -e "$ROOT/made-from" ] || fail "$ROOT has files that are not from here: name another folder"
    rm -rf --one-file-system "$ROOT"
}

make_root() {
    [ "$(stamp)" != "$(cat "$ROOT/made-from" 2>/dev/null)" ] || return 0
    install_debootstrap
    remove_root
    mkdir -p "$ROOT"
    echo "not finished" >"$ROOT/made-from"
    use_proxy_of_apt
    say "making a Debian 13 in $ROOT; this takes one or two minutes ..."
    # debootstrap mounts, too. It starts no services. An empty mirror stands for its own choice.
    # shellcheck disable=SC2046 # no word at all if there is no mirror
    quietly debootstrap unshare --mount debootstrap --variant=minbase --include="$PACKAGES" \
        "$SUITE" "$ROOT" $(mirror)
    rm -f "$ROOT"/var/cache/apt/archives/*.deb
    stamp >"$ROOT/made-from"
}

# Everything in the checkout that git knows or would know, so that what is not committed is tested.
copy_checkout() {
    mkdir -p "$ROOT/$COPY"
    # Its environment stays, so that nothing is to be set up if nothing has changed.
    find "$ROOT/$COPY" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from - --ignore-failed-read 2>/dev/null |
        tar --extract --directory "$ROOT/$COPY" --no-same-owner
    cp -RL /usr/local/share/ca-certificates/. "$ROOT/usr/local/share/ca-certificates/" 2>/dev/null || true
    cat /etc/resolv.conf >"$ROOT/etc/resolv.conf"
}

# in_root OPTION COMMAND...: run it in the copy, in namespaces that this option of unshare adds to.
in_root() {
    option=$1
    shift
    # It is killed when this program ends, and then kills the namespace's first process.
    # shellcheck disable=SC2086 # no word at all if there is no option
    setpriv --pdeathsig KILL \
        unshare --mount --pid --fork --kill-child $option "$0" --in-root "$@"
}

# The first process of such a namespace: all others end with it, and it reaps them.
if [ "${1-}" = --in-root ]; then
    shift
    mount --bind "$ROOT" "$ROOT" # since "ip netns" wants a root folder that is a mount
    mount -t proc proc "$ROOT/proc"
    mount --rbind /dev "$ROOT/dev"
    mount --rbind /sys "$ROOT/sys"
    mount -t tmpfs tmpfs "$ROOT/run"
    mount -t tmpfs tmpfs "$ROOT/tmp"
    status=0
    env -u PYTHON -u PYTHONPATH -u PYTHONHOME -u PYENV_ROOT -u VIRTUAL_ENV -u TMPDIR \
        HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$ROOT" env --chdir="/$COPY" "$@" || status=$?
    exit $status
fi

if [ "${1-}" = --clean ]; then
    [ -e "$ROOT" ] || exit 0
    [ "$(id -u)" = 0 ] || { say "$ROOT stays, as only root can remove it" && exit 0; }
    remove_root
    rm -rf "$ROOT" "$ROOT".*.log "$ROOT.lock"
    exit 0
fi

[ "$(id -u)" = 0 ] || fail "it mounts folders and changes the root folder: please run it as root"
unshare --mount true 2>/dev/null ||
    fail "this root may not mount anything; a container needs to be a privileged one"
mkdir -p "${ROOT%/*}"
exec 9>"$ROOT.lock"
flock --nonblock 9 || fail "another run uses $ROOT; wait for it, or set TRIXIE_ROOT"
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
