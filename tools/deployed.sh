#!/bin/sh
# What tools/deployment.sh runs on each of its machines when Ansible has set it up, as root. Arguments: the
# machine's name and the other one's; and at last, when both have passed, the machine's name and --end.

set -eu

me=$1 other=$2

step() { printf '== %s: %s\n' "$me" "$*"; }
ctl() { rabbitmqctl --quiet "$@"; }

# nowhere PATTERN FILE: fail, and show where, if a line of the file has it.
nowhere() { if grep -E -e "$1" "$2"; then exit 1; fi; }

# Show why it failed, if it does.
trap 'echo "FAILED on $me"; journalctl --no-pager -n 80 -u robot -u rabbitmq-server' EXIT

if [ "$other" = --end ]; then
    step "the end"
    systemctl stop robot
    systemctl show robot -p Result -p ExecMainStatus -p NRestarts | sort | paste -s -d ' ' | tee /tmp/end
    grep -qx 'ExecMainStatus=0 NRestarts=0 Result=success' /tmp/end
    trap - EXIT
    exit
fi

step "Debian $(cat /etc/debian_version), RabbitMQ $(dpkg-query -W -f '${Version}' rabbitmq-server)"

step "the unit"
systemd-analyze verify /etc/systemd/system/robot.service
systemd-analyze security --no-pager robot.service | tail -n 1

step "the users, and what they may do"
for list in users permissions topic_permissions vhost_limits operator_policies; do
    ctl "list_$list"
done | tee /tmp/users
nowhere guest /tmp/users

step "what others can reach, besides SSH"
ss -Hltn | awk '{ print $4 }' | sort | tee /tmp/open
grep -v -e '^127\.' -e ':22$' /tmp/open >/tmp/reached
[ "$(cat /tmp/reached)" = '*:5671' ]

step "the robots meet"
for _ in $(seq 180); do
    ! journalctl --no-pager -u robot | grep -q "robot: $other is here, too" || break
    sleep 1
done
journalctl --no-pager -u robot | grep "robot: $other is here, too"
ctl list_connections user ssl ssl_protocol peer_host
[ "$(ctl list_connections ssl | grep -c true)" -ge 3 ]
ctl list_connections ssl >/tmp/connections
nowhere false /tmp/connections
trap - EXIT
