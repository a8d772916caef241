#!/bin/sh
# examples/deployment, tried for real: Ansible sets up two machines over SSH, with a broker and a robot
# each, and the robots meet over TLS. The machines are containers of systemd-nspawn that boot with
# systemd, one a Debian 13 and the other a Debian 12. Ansible runs on this machine, and logs in there as
# a user who may use sudo. "--clean" removes what is kept.
#
# What is tried: the whole playbook; that a second run of it changes nothing; and by tools/deployed.sh,
# on each machine, what systemd thinks of the unit and the robot's state; that each robot hears the other
# one; that nobody gets in without TLS or as guest; and that the robot ends within seconds and with the
# status 0.
#
# Needs root, a Debian or a relative of it, and the package index. DEPLOYMENT_ROOT names the folder,
# which is kept for the next run.

set -eu
cd "$(dirname "$0")/.."

BASE=${DEPLOYMENT_ROOT:-/var/cache/miros-rabbitmq/deployment}
PACKAGES=ca-certificates,dbus,iproute2,openssh-server,openssl,python3,python3-venv,sudo,systemd-sysv
COPY=root/deployment # in the folder of each machine: examples/deployment and a wheel
RUN=$BASE/run
NAME=deployment

# The machines: a name, the last byte of an address, and a Debian.
MACHINES="ada 71 trixie
bob 72 bookworm"
of() { printf '%s\n' "$MACHINES" | sed -n "s/^$1 \\([0-9]*\\) \\(.*\\)/\\$2/p"; }
names() { printf '%s\n' "$MACHINES" | sed 's/ .*//'; }

# Which Debian root.sh works on.
use() {
    export SUITE="$1"
    ROOT=$BASE/$SUITE
}
use "${SUITE:-trixie}"
. tools/root.sh

# boot MACHINE: run it until it is powered off. It may fail to begin, and is tried again then.
boot() {
    for _ in 1 2 3; do
        systemd-nspawn --quiet --boot --directory "$RUN/$1/root" --machine "$1" --register=no \
            --keep-unit --network-namespace-path "/run/netns/$1" --resolv-conf=off \
            --link-journal=no || true
        [ ! -e "$RUN/$1/reached" ] || return 0
        sleep 1
    done
}

# on MACHINE COMMAND...: as root, over SSH.
on() {
    machine=$1
    shift
    ssh -F "$RUN/ssh" "10.77.0.$(of "$machine" 1)" sudo "$@"
}

# The network and the machines belong to namespaces that end with this program. This machine has an
# address in that network, and no other one.
if [ "${1-}" = --machines ]; then
    mount --make-rprivate /
    mount -t proc proc /proc # that of the namespace, which systemd-nspawn looks at
    mount -t tmpfs tmpfs "$RUN"
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    ip link set lo up
    ip link add lan type bridge
    ip address add 10.77.0.1/24 dev lan
    ip link set lan up
    ssh-keygen -q -t ed25519 -N "" -f "$RUN/key"
    cat >"$RUN/ssh" <<SSH
User admin
IdentityFile $RUN/key
BatchMode yes
StrictHostKeyChecking accept-new
UserKnownHostsFile $RUN/known_hosts
LogLevel ERROR
ConnectTimeout 5
SSH
    running=
    for machine in $(names); do
        ip netns add "$machine"
        ip link add "$machine" type veth peer name eth0 netns "$machine"
        ip link set "$machine" master lan up
        ip -n "$machine" link set lo up
        ip -n "$machine" link set eth0 up
        ip -n "$machine" address add "10.77.0.$(of "$machine" 1)/24" dev eth0
        at=$RUN/$machine
        mkdir -p "$at/upper" "$at/work" "$at/root"
        use "$(of "$machine" 2)"
        mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$at/upper,workdir=$at/work" "$at/root"
        echo "$machine" >"$at/root/etc/hostname"
        # As Debian's installer writes it, and debootstrap does not.
        printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$machine" >"$at/root/etc/hosts"
        echo 'admin ALL=(ALL) NOPASSWD: ALL' >"$at/root/etc/sudoers.d/admin"
        chroot "$at/root" useradd --create-home --shell /bin/bash admin
        install -D -m 600 -o "$(stat -c %u "$at/root/home/admin")" "$RUN/key.pub" \
            "$at/root/home/admin/.ssh/authorized_keys"
        chroot "$at/root" chown -R admin: /home/admin/.ssh
        boot "$machine" >"$BASE/$machine.console" 2>&1 </dev/null &
        running="$running $!"
        # Two that begin at once are in each other's way.
        for _ in $(seq 90); do
            ! on "$machine" touch /reached 2>/dev/null || { touch "$at/reached" && break; }
            sleep 1
        done
        [ -e "$at/reached" ] || fail "$machine does not boot; its console: $BASE/$machine.console"
    done
    say "the playbook, over SSH"
    bin=$PWD/.venv/bin
    cd "$BASE/play"
    play() {
        "$bin/ansible-playbook" site.yml -e @test.yml --ssh-common-args "-F $RUN/ssh" && return
        for machine in $(names); do
            on "$machine" journalctl --no-pager -n 60 -u epmd -u rabbitmq-server -u robot
        done
        fail "the playbook failed"
    }
    play
    say "the playbook once more: nothing may change"
    play >"$RUN/second"
    cat "$RUN/second"
    [ "$(grep -c 'changed=0 .*unreachable=0 .*failed=0 ' "$RUN/second")" = 3 ]
    for machine in $(names); do
        on "$machine" sh "/$COPY/deployed.sh" "$machine" "$(names | grep -vx "$machine")"
    done
    for machine in $(names); do
        on "$machine" sh "/$COPY/deployed.sh" "$machine" --end
        on "$machine" systemctl poweroff || true # which ends the connection, too
    done
    # shellcheck disable=SC2086 # a list of words
    wait $running || true
    say "passed"
    exit 0
fi

suites() { printf '%s\n' "$MACHINES" | sed 's/.* //'; }

if [ "${1-}" = --clean ]; then
    for suite in $(suites); do use "$suite" && clean_root; done
    rm -rf "$BASE/play" "$BASE/run" "$BASE"/*.console "$BASE"/*.log
    rmdir "$BASE" 2>/dev/null || true
    exit
fi

mkdir -p "$RUN"
claim_root
if ! command -v systemd-nspawn >/dev/null || ! command -v ssh >/dev/null; then
    quietly tools env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends openssh-client systemd-container
fi
quietly linters .venv/bin/python -m pip -q --disable-pip-version-check install -e '.[deployment]'
(
    PATH=$PWD/.venv/bin:$PATH
    cd examples/deployment
    quietly lint ansible-lint --offline --profile production .
    quietly yaml yamllint --strict .
    quietly docker hadolint Dockerfile
)
# What Ansible runs: a copy, as it makes secrets, with a wheel of these sources. That is built from a copy,
# too, as setuptools would take in what an earlier build left.
play=$BASE/play
rm -rf "$play"
cp -R examples/deployment "$play"
rm -rf "$play/secrets"
mkdir "$play/sources"
cp -R pyproject.toml README.rst LICENSE miros_rabbitmq "$play/sources"
quietly wheel .venv/bin/python -m pip wheel -q --no-deps --wheel-dir "$play" "$play/sources"
rm -rf "$play/sources"
{
    printf 'robots:\n  vars: {ansible_python_interpreter: /usr/bin/python3}\n  hosts:\n'
    printf '%s\n' "$MACHINES" | while read -r machine byte _; do
        printf '    %s: {ansible_host: 10.77.0.%s}\n' "$machine" "$byte"
    done
} >"$play/inventory.yml"
wheel=$(basename "$play"/*.whl)
printf 'robot_wheel: "{{ playbook_dir }}/%s"\nrobot_max_age_s: "30"\n' "$wheel" >"$play/test.yml"
cp tools/deployed.sh "$play/"
for machine in $(names); do
    use "$(of "$machine" 2)"
    make_root
    mkdir -p "$ROOT/$COPY"
    rm -rf "${ROOT:?}/${COPY:?}"
    cp -R "$play" "$ROOT/$COPY"
    use_network_settings
    say "$SUITE: Ansible installs the packages and the package ..."
    # Here the index can be reached, and nothing is started; in the machines it is the other way round.
    # shellcheck disable=SC2016 # variables of the shell in there
    quietly install in_root "" sh -c '
        set -e
        update-ca-certificates >/dev/null 2>&1
        printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        [ -x /opt/ansible/bin/ansible-playbook ] || python3 -m venv /opt/ansible
        /opt/ansible/bin/pip -q install ansible-core
        /opt/ansible/bin/ansible-playbook site.yml --limit "$1" --tags install --connection local \
            -e @test.yml
        rm /usr/sbin/policy-rc.d' sh "$machine"
done
unshare --mount --net --pid --fork --kill-child "$0" --machines
