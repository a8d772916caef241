# What tools/trixie.sh and tools/deployment.sh share: a Debian in a folder, and commands in it. Both
# source this file in the checkout's folder, and set NAME, which messages begin with, SUITE, PACKAGES,
# ROOT, the folder, and COPY, the folder within it where commands run.
# shellcheck shell=sh disable=SC2154,SC2153

say() { printf '%s\n' "$NAME: $*"; }

fail() {
    printf '%s\n' "$NAME: $*" >&2
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

# The keys of Debian 13 (trixie) came to Debian 12 with an update of debian-archive-keyring.
install_debootstrap() {
    command -v apt-get >/dev/null || fail "needs apt-get, as on Debian, to get debootstrap"
    [ -e /usr/sbin/debootstrap ] && [ -e /usr/share/keyrings/debian-archive-"$SUITE"-stable.gpg ] ||
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
    printf '%s\n' "$NAME: failed: $*; the end of $log:" >&2
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
    say "making a Debian ($SUITE) in $ROOT; this takes one or two minutes ..."
    # debootstrap mounts, too. It starts no services. An empty mirror stands for its own choice.
    # shellcheck disable=SC2046 # no word at all if there is no mirror
    quietly debootstrap unshare --mount debootstrap --variant=minbase --include="$PACKAGES" \
        "$SUITE" "$ROOT" $(mirror)
    rm -f "$ROOT"/var/cache/apt/archives/*.deb
    stamp >"$ROOT/made-from"
}

# What programs in there need to reach the package index as this machine does.
use_network_settings() {
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

# What has to be so before anything is done; and no other run may use the folder meanwhile.
claim_root() {
    [ "$(id -u)" = 0 ] || fail "it mounts folders and changes the root folder: please run it as root"
    unshare --mount true 2>/dev/null ||
        fail "this root may not mount anything; a container needs to be a privileged one"
    mkdir -p "${ROOT%/*}"
    exec 9>"$ROOT.lock"
    flock --nonblock 9 || fail "another run uses $ROOT; wait for it, or name another folder"
}

# Remove the folder and what is beside it.
clean_root() {
    [ -e "$ROOT" ] || return 0
    [ "$(id -u)" = 0 ] || { say "$ROOT stays, as only root can remove it" && return 0; }
    remove_root
    rm -rf "$ROOT" "$ROOT".*.log "$ROOT.lock" "$ROOT.run" "$ROOT".*.console
}
