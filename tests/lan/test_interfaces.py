"""Which interface is taken for the LAN's, on machines with bridges, tunnels and dead cables."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import MakeLan
from .netns import Lan, Namespace

LOOK = """
import json, logging
log = []
class Keep(logging.Handler):
    def emit(self, record): log.append((record.levelname, record.getMessage()))
logging.getLogger("miros_rabbitmq").addHandler(Keep())
logging.getLogger("miros_rabbitmq").setLevel(logging.INFO)
from miros_rabbitmq.discovery.lan import LocalAreaNetwork
lan = LocalAreaNetwork([], {arguments})
for _ in range(2):
    interface = lan.interface
print(json.dumps(dict(name=interface.name, address=lan.this.address, log=log)))
"""

TUN = """
import fcntl, os, struct, sys
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22s", b"tun0", 0x1001, b""))
print("ready", flush=True)
sys.stdin.read()
"""


def look(machine: Namespace, arguments: str = "") -> Any:
    return machine.run(LOOK.format(arguments=arguments))


def warnings(answer: Any) -> list[str]:
    return [text for level, text in answer["log"] if level == "WARNING"]


@pytest.fixture
def switch(make_lan: MakeLan) -> Lan:
    return make_lan("192.168.1.0/24")


def add_docker(machine: Namespace) -> None:
    machine.ip("link", "add", "docker0", "type", "bridge")
    machine.ip("address", "add", "172.17.0.1/16", "dev", "docker0")
    machine.ip("link", "set", "docker0", "up")


def add_container(machine: Namespace, container: Namespace) -> None:
    peer = ("peer", "name", "eth0", "netns", container.name)
    machine.ip("link", "add", "veth1a2b", "type", "veth", *peer)
    machine.ip("link", "set", "veth1a2b", "master", "docker0", "up")
    container.ip("address", "add", "172.17.0.2/16", "dev", "eth0")
    container.ip("link", "set", "eth0", "up")


@contextlib.contextmanager
def vpn_of(machine: Namespace) -> Iterator[subprocess.Popen[str]]:
    """A VPN, whose program holds its device."""
    process = machine.start(TUN)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    machine.ip("address", "add", "10.8.0.6", "peer", "10.8.0.5", "dev", "tun0")
    machine.ip("link", "set", "tun0", "up")
    yield process
    process.stdin.close()
    process.wait()


@pytest.mark.parametrize("has_container", [False, True])
def test_two_robots_on_a_switch_do_not_both_take_docker0(
    lonely: Namespace, switch: Lan, has_container: bool
) -> None:
    robot = lonely
    add_docker(robot)  # first: its interface has the lower number
    switch.plug_in(robot, "eth0", 1)
    container = switch.host()
    if has_container:
        container.ip("link", "delete", "eth0")
        add_container(robot, container)
    answer = look(robot)
    assert (answer["name"], answer["address"]) == ("eth0", switch.address(1))
    assert warnings(answer) == []
    if has_container:
        inside = look(container)
        assert (inside["address"], warnings(inside)) == ("172.17.0.2", [])


def test_a_bridge_that_holds_the_cable_is_the_lan(switch: Lan) -> None:
    robot = switch.host()
    add_docker(robot)
    robot.ip("link", "add", "br0", "type", "bridge")
    robot.ip("link", "set", "eth0", "master", "br0")
    robot.ip("address", "add", f"{switch.address(1)}/24", "dev", "br0")
    robot.ip("link", "set", "br0", "up")
    assert look(robot)["name"] == "br0"


@pytest.mark.skipif(sys.platform != "linux", reason="TUN devices are Linux's")
def test_the_half_routes_of_a_vpn_do_not_make_it_the_lan(switch: Lan) -> None:
    robot, _ = switch.host(1), switch.host(254)
    robot.ip("route", "add", "default", "via", switch.address(254))
    with vpn_of(robot):
        for half in ("0.0.0.0/1", "128.0.0.0/1"):
            robot.ip("route", "add", half, "via", "10.8.0.5")
        answer = look(robot)
        assert (answer["name"], warnings(answer)) == ("eth0", [])
        # Nor does a default route of its own.
        robot.ip("route", "replace", "default", "via", "10.8.0.5")
        assert look(robot)["name"] == "eth0"
        answer = look(robot, "interface='tun0'")
        assert (answer["address"], warnings(answer)) == ("10.8.0.6", [])


@pytest.mark.parametrize("is_plugged_in", [True, False], ids=["switched off", "without a cable"])
def test_an_interface_without_a_link_is_not_taken_where_another_has_one(
    switch: Lan, make_lan: MakeLan, is_plugged_in: bool
) -> None:
    robot = switch.host(1)
    radio = make_lan("10.2.2.0/24")
    radio.plug_in(robot, "wlan0", 1)
    assert look(robot)["name"] == "eth0", "what is first is taken, while it has a link"
    if is_plugged_in:
        robot.ip("link", "set", "eth0", "down")
    else:
        switch.pull_out(robot, "eth0")
    answer = look(robot)
    assert (answer["name"], warnings(answer)) == ("wlan0", [])


def test_a_guess_is_said_once_with_what_else_there_is_and_how_to_choose(
    switch: Lan, make_lan: MakeLan
) -> None:
    robot = switch.host(1)
    make_lan("10.2.2.0/24").plug_in(robot, "wlan0", 1)
    (warning,) = warnings(look(robot))
    assert f"eth0 ({switch.address(1)})" in warning
    assert "wlan0 (10.2.2.1)" in warning
    assert 'interface="eth0"' in warning
    assert "rabbit_host=" in warning
    answer = look(robot, "interface='wlan0'")
    assert (answer["address"], warnings(answer)) == ("10.2.2.1", [])
    answer = look(robot, "rabbit_host='10.2.2.1'")
    assert (answer["name"], warnings(answer)) == ("wlan0", [])


def test_a_named_interface_without_an_address_yet_is_waited_for(switch: Lan) -> None:
    robot = switch.host()
    answer = look(robot, "interface='eth0'")
    assert answer["address"] == "127.0.0.1"
    (warning,) = warnings(answer)
    assert "eth0, which interface= names, has no IPv4 address" in warning
