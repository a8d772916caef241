#!/bin/sh
# examples/deployment, tried for real: two machines with systemd, which Ansible sets up with a broker
# and a robot each, and whose robots meet over TLS. Each machine is a container of systemd-nspawn with
# a Debian 13, and its network is a cable to the other one. "--clean" removes what is kept.
#
# What is tried on each machine, by tools/deployed.sh: the whole playbook; that a second run of it changes nothing; what
# systemd thinks of the unit and the robot's state; that each robot hears the other one; that nobody
# gets in without TLS or as guest; and that the robot ends within seconds and with the status 0.
#
# Needs root, a Debian or a relative of it, and the package index. ROOT is kept for the next run.

set -eu
cd "$(dirname "$0")/.."

SUITE=trixie
PACKAGES=ca-certificates,dbus,iproute2,openssl,python3,python3-venv,systemd-sysv
ROOT=${DEPLOYMENT_ROOT:-/var/cache/miros-rabbitmq/deployment}
COPY=root/deployment # in that folder: examples/deployment and a wheel
NAME=deployment
. tools/root.sh

# boot MACHINE: run it until its test has ended. It may fail to begin, and is tried again then.
boot() {
    for _ in 1 2 3; do
        systemd-nspawn --quiet --boot --directory "$ROOT.run/$1/root" --machine "$1" --register=no \
            --keep-unit --network-namespace-path "/run/netns/$1" --resolv-conf=off \
            --link-journal=no || true
        [ ! -e "$ROOT.run/$1/root/root/log" ] || return 0
        sleep 1
    done
}

# The cable and the two machines belong to namespaces that end with this program.
if [ "${1-}" = --machines ]; then
    mount --make-rprivate /
    mount -t proc proc /proc # that of the namespace, which systemd-nspawn looks at
    mount -t tmpfs tmpfs "$ROOT.run"
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    ip link add ada type veth peer name bob
    running=
    for machine in ada bob; do
        [ $machine = ada ] && other=bob || other=ada
        ip netns add $machine
        ip link set $machine netns $machine
        ip -n $machine link set lo up
        ip -n $machine link set $machine up
        ip -n $machine address add "$(sed -n "s/^$machine //p" "$ROOT/$COPY/addresses")/24" dev $machine
        at=$ROOT.run/$machine
        mkdir -p "$at/upper" "$at/work" "$at/root"
        mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$at/upper,workdir=$at/work" "$at/root"
        cat >"$at/root/etc/systemd/system/try.service" <<UNIT
[Unit]
After=multi-user.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/bin/sh /$COPY/deployed.sh $machine $other
StandardOutput=file:/root/log
StandardError=inherit
TimeoutStartSec=600
Environment=LC_ALL=C.UTF-8 HOME=/root
UNIT
        mkdir -p "$at/root/etc/systemd/system/default.target.wants"
        ln -s ../try.service "$at/root/etc/systemd/system/default.target.wants/"
        echo $machine >"$at/root/etc/hostname"
        boot $machine >"$ROOT.$machine.console" 2>&1 </dev/null &
        running="$running $!"
        # Two that begin at once are in each other's way.
        for _ in $(seq 60); do [ ! -e "$at/root/root/log" ] || break; sleep 1; done
    done
    # shellcheck disable=SC2086 # a list of words
    wait $running || true # their logs say how it went
    cat "$ROOT.run/ada/root/root/log" "$ROOT.run/bob/root/root/log"
    for machine in ada bob; do
        grep -q "^== $machine: passed" "$ROOT.run/$machine/root/root/log" ||
            fail "failed on $machine; its console: $ROOT.$machine.console"
    done
    exit 0
fi

[ "${1-}" != --clean ] || { clean_root && exit; }

claim_root
command -v systemd-nspawn >/dev/null || quietly nspawn env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends systemd-container
make_root
mkdir -p "$ROOT/$COPY" "$ROOT.run"
rm -rf "${ROOT:?}/${COPY:?}"
cp -R examples/deployment "$ROOT/$COPY"
rm -rf "$ROOT/$COPY/secrets"
cp tools/deployed.sh "$ROOT/$COPY/"
# A wheel of these sources, built from a copy, as setuptools would take in what an earlier build left.
sources=$ROOT.sources
rm -rf "$sources"
mkdir "$sources"
cp -R pyproject.toml setup.py README.rst LICENSE miros_rabbitmq "$sources"
quietly wheel .venv/bin/python -m pip wheel -q --no-deps --wheel-dir "$ROOT/$COPY" "$sources"
rm -rf "$sources"
printf 'ada 10.77.0.71\nbob 10.77.0.72\n' >"$ROOT/$COPY/addresses"
cat >"$ROOT/$COPY/inventory.yml" <<'INVENTORY'
robots:
  hosts:
    ada: {ansible_host: 10.77.0.71}
    bob: {ansible_host: 10.77.0.72}
  vars:
    ansible_connection: local
    ansible_python_interpreter: /usr/bin/python3
INVENTORY
cat >"$ROOT/$COPY/test.yml" <<VARIABLES
robot_wheel: /$COPY/$(basename "$ROOT/$COPY"/*.whl)
robot_max_age_s: "30"
VARIABLES
use_network_settings
quietly linters .venv/bin/python -m pip -q --disable-pip-version-check install -e '.[deployment]'
(
    PATH=$PWD/.venv/bin:$PATH
    cd examples/deployment
    quietly lint ansible-lint --offline --profile production .
    quietly yaml yamllint --strict .
    quietly docker hadolint Dockerfile
)
say "installing Ansible, and by it the packages, the package and the keys ..."
# Here the index can be reached, and nothing is started; in the machines it is the other way round.
# shellcheck disable=SC2016 # variables of the shell in there
quietly install in_root "" sh -c '
    set -e
    update-ca-certificates >/dev/null 2>&1
    printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    [ -x /opt/ansible/bin/ansible-playbook ] || python3 -m venv /opt/ansible
    /opt/ansible/bin/pip -q install ansible-core
    /opt/ansible/bin/ansible-playbook site.yml --limit localhost,ada --tags install -e @test.yml
    rm /usr/sbin/policy-rc.d'
unshare --mount --net --pid --fork --kill-child "$0" --machines
