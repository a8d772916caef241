"""What Linux tells of network devices and routes."""

from __future__ import annotations

import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from miros_rabbitmq.discovery import devices as devices_module
from miros_rabbitmq.discovery.devices import (
    Device,
    LinkState,
    Reach,
    Route,
    parse_proc_net_route,
    read_devices,
    read_routes,
)

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
tun0\t00000000\t0500080A\t0003\t0\t0\t0\t00000080\t0\t0\t0
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000080\t0500080A\t0003\t0\t0\t0\t00000080\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
*\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0
eth1\t00000000\t00000000\t0000\t0\t0\t0\t00000000\t0\t0\t0
eth2\tbroken
eth2\tzz\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the kernel prints them in its byte order")
def test_routes_are_read_with_their_masks_and_only_those_in_use() -> None:
    assert parse_proc_net_route(ROUTES) == (
        Route("tun0", IPv4Network("0.0.0.0/1"), True),
        Route("eth0", IPv4Network("0.0.0.0/0"), True, 100),
        Route("tun0", IPv4Network("128.0.0.0/1"), True),
        Route("eth0", IPv4Network("192.168.0.0/24"), False, 100),
    )
    defaults = [route.device for route in parse_proc_net_route(ROUTES) if route.is_default]
    assert defaults == ["eth0"], "half a route is no default route"


class System:
    """A folder that looks like ``/sys/class/net``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, members: tuple[str, ...] | None = None, **files: str) -> None:
        folder = self._folder / name
        folder.mkdir()
        for file, text in {"flags": "0x1003", "type": "1", "operstate": "up", **files}.items():
            (folder / file).write_text(text + "\n")
        if members is not None:
            (folder / "brif").mkdir()
            for member in members:
                (folder / "brif" / member).touch()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(devices_module, "SYS_CLASS_NET", tmp_path)
    monkeypatch.setattr(devices_module, "PROC_ROUTE", tmp_path / "none")
    return System(tmp_path)


def test_the_link_state_is_that_of_flags_carrier_and_operstate(system: System) -> None:
    system.add("eth0", carrier="1")
    system.add("eth1", carrier="0", operstate="down")
    system.add("eth2", flags="0x1002", operstate="down")  # its carrier cannot be read
    system.add("wlan0", carrier="1", operstate="dormant")
    system.add("dummy0", carrier="1", operstate="unknown")
    states = [one.link for one in read_devices(["eth0", "eth1", "eth2", "wlan0", "dummy0"])]
    works, no_link = LinkState.WORKS, LinkState.NO_LINK
    assert states == [works, no_link, LinkState.DOWN, no_link, works]


def test_the_kind_of_a_device_is_read(system: System) -> None:
    system.add("docker0", (), uevent="DEVTYPE=bridge\nINTERFACE=docker0\nIFINDEX=4")
    system.add("tun0", type="65534", tun_flags="0x1001")
    docker, tun = read_devices(["docker0", "tun0"])
    assert docker == Device("docker0", LinkState.WORKS, 1, "bridge", members=())
    assert tun == Device("tun0", LinkState.WORKS, 65534, is_tun=True)


@pytest.mark.usefixtures("system")
def test_nothing_is_known_of_a_device_that_the_system_does_not_show() -> None:
    assert read_devices(["{GUID}", "eth0"]) == (Device("{GUID}"), Device("eth0"))
    assert read_routes() is None


@pytest.mark.parametrize(
    ("device", "reach"),
    [
        (Device("eth0"), Reach.LAN),
        (Device("enp3s0"), Reach.LAN),
        (Device("wlp2s0", kind="wlan"), Reach.LAN),
        (Device("bond0", kind="bond"), Reach.LAN),
        (Device("eth0.10", kind="vlan"), Reach.LAN),
        (Device("usb0", kind="gadget"), Reach.LAN),
        (Device("brlan", members=("eth0", "vnet3")), Reach.LAN),
        (Device("brlan", members=("vnet3", "tap0")), Reach.INSIDE),
        (Device("brlan", members=()), Reach.INSIDE),
        (Device("docker0", members=("enp3s0",)), Reach.LAN),
        (Device("br-0123456789ab"), Reach.INSIDE),
        (Device("br-lan"), Reach.LAN),
        (Device("virbr0"), Reach.INSIDE),
        (Device("veth1a2b3c"), Reach.INSIDE),
        (Device("tun0"), Reach.TUNNEL),
        (Device("office", is_tun=True), Reach.TUNNEL),
        (Device("office", kind="wireguard"), Reach.TUNNEL),
        (Device("ppp0", hardware=512), Reach.TUNNEL),
        (Device("utun4"), Reach.TUNNEL),
        (Device("tailscale0"), Reach.TUNNEL),
        (Device("tunnel-lab"), Reach.LAN),
    ],
)
def test_what_a_device_leads_to_is_told_by_its_kind_and_else_by_its_name(
    device: Device, reach: Reach
) -> None:
    assert device.reach is reach
