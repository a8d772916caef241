"""The forms in which systems print their ARP tables."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from miros_rabbitmq.discovery import arp
from miros_rabbitmq.discovery.arp import ArpEntry, parse_arp_program, parse_proc_net_arp

PROC_NET_ARP = """\
IP address       HW type     Flags       HW address            Mask     Device
192.168.1.254    0x1         0x2         a4:2b:b0:9e:10:01     *        wlan0
192.168.1.71     0x1         0x6         b8:27:eb:00:7c:2f     *        wlan0
192.168.1.72     0x1         0x0         00:00:00:00:00:00     *        wlan0
192.168.1.73     0x1         0x0         b8:27:eb:11:22:33     *        wlan0
172.17.0.2       0x1         0x2         02:42:ac:11:00:02     *        docker0
"""

LINUX_ARP_AN = """\
? (192.168.1.254) at a4:2b:b0:9e:10:01 [ether] on wlan0
? (192.168.1.71) at b8:27:eb:00:7c:2f [ether] PERM on wlan0
? (192.168.1.72) at <incomplete> on wlan0
? (172.17.0.2) at 02:42:ac:11:00:02 [ether] on docker0
"""

LINUX_ARP_A_WITH_NAMES = """\
router.lan (10.0.0.1) at a4:2b:b0:9e:10:01 [ether] on eth0
robot (10.0.0.17) at b8:27:eb:00:7c:2f [ether] on eth0
"""

MACOS = """\
? (10.0.1.1) at 8:9e:1:c3:0:4f on en0 ifscope [ethernet]
? (10.0.1.44) at (incomplete) on en0 ifscope [ethernet]
? (10.0.1.60) at b8:27:eb:0:7c:2f on en0 ifscope permanent [ethernet]
? (10.0.1.255) at ff:ff:ff:ff:ff:ff on en0 ifscope [ethernet]
? (224.0.0.251) at 1:0:5e:0:0:fb on en0 ifscope permanent [ethernet]
? (192.168.64.2) at 5e:52:30:a:b:c on bridge100 ifscope [bridge]
"""

FREEBSD = """\
? (10.0.2.2) at 52:55:0a:00:02:02 on em0 expires in 1187 seconds [ethernet]
? (10.0.2.9) at (incomplete) on em0 expired [ethernet]
? (10.0.2.15) at 08:00:27:6f:0d:81 on em0 permanent [ethernet]
"""

WINDOWS = """\

Interface: 192.168.1.70 --- 0x5
  Internet Address      Physical Address      Type
  192.168.1.254         a4-2b-b0-9e-10-01     dynamic   \x20
  192.168.1.71          b8-27-eb-00-7c-2f     static    \x20
  192.168.1.255         ff-ff-ff-ff-ff-ff     static    \x20
  224.0.0.22            01-00-5e-00-00-16     static    \x20
  255.255.255.255       ff-ff-ff-ff-ff-ff     static    \x20

Interface: 172.24.16.1 --- 0x2b
  Internet Address      Physical Address      Type
  172.24.31.8           00-15-5d-4a-10-02     dynamic   \x20
"""

WINDOWS_IN_GERMAN = """\

Schnittstelle: 192.168.1.70 --- 0x5
  Internetadresse       Physische Adresse     Typ
  192.168.1.254         a4-2b-b0-9e-10-01     dynamisch \x20
  192.168.1.255         ff-ff-ff-ff-ff-ff     statisch  \x20
"""


def complete(entries: list[ArpEntry]) -> list[tuple[str, str]]:
    return [(entry.address, entry.interface) for entry in entries if entry.complete]


def test_the_linux_kernels_table_tells_who_answered_and_who_did_not() -> None:
    entries = parse_proc_net_arp(PROC_NET_ARP)
    assert len(entries) == 5
    assert complete(entries) == [
        ("192.168.1.254", "wlan0"),
        ("192.168.1.71", "wlan0"),
        ("172.17.0.2", "docker0"),
    ]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        pytest.param(
            LINUX_ARP_AN,
            [("192.168.1.254", "wlan0"), ("192.168.1.71", "wlan0"), ("172.17.0.2", "docker0")],
            id="Linux",
        ),
        pytest.param(
            LINUX_ARP_A_WITH_NAMES,
            [("10.0.0.1", "eth0"), ("10.0.0.17", "eth0")],
            id="Linux with names",
        ),
        pytest.param(
            MACOS,
            [("10.0.1.1", "en0"), ("10.0.1.60", "en0"), ("192.168.64.2", "bridge100")],
            id="macOS",
        ),
        pytest.param(FREEBSD, [("10.0.2.2", "em0"), ("10.0.2.15", "em0")], id="FreeBSD"),
        pytest.param(
            WINDOWS,
            [
                ("192.168.1.254", "192.168.1.70"),
                ("192.168.1.71", "192.168.1.70"),
                ("172.24.31.8", "172.24.16.1"),
            ],
            id="Windows",
        ),
        pytest.param(
            WINDOWS_IN_GERMAN, [("192.168.1.254", "192.168.1.70")], id="Windows in German"
        ),
    ],
)
def test_the_program_arp_is_understood_on_every_system(
    printed: str, expected: list[tuple[str, str]]
) -> None:
    assert complete(parse_arp_program(printed)) == expected
    assert complete(parse_arp_program(printed.replace("\n", "\r\n"))) == expected


def test_an_address_that_was_asked_for_in_vain_is_in_the_table_but_not_complete() -> None:
    assert ArpEntry("192.168.1.72", "wlan0", False) in parse_proc_net_arp(PROC_NET_ARP)
    assert ArpEntry("192.168.1.72", "wlan0", False) in parse_arp_program(LINUX_ARP_AN)
    assert ArpEntry("10.0.1.44", "en0", False) in parse_arp_program(MACOS)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "\n\n",
        "arp: in 0 entries no match found.\n",
        "No ARP Entries Found.\n",
        "? (999.1.1.1) at a4:2b:b0:9e:10:01 [ether] on eth0\n",
        "? (10.0.0.1) at a4:2b:b0:9e:10:01 [ether]\n",
        "10.0.0.1  zz-zz-zz-zz-zz-zz  dynamic\n",
    ],
)
def test_a_text_that_is_not_a_table_has_no_entries(garbage: str) -> None:
    assert parse_arp_program(garbage) == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "10.0.0.1 0x1 0x2 a4:2b:b0:9e:10:01 *",
        "10.0.0.1 0x1 flags a4:2b:b0:9e:10:01 * eth0",
        "10.0.0.256 0x1 0x2 a4:2b:b0:9e:10:01 * eth0",
    ],
)
def test_a_broken_line_of_the_kernels_table_is_passed_over(line: str) -> None:
    good = PROC_NET_ARP.splitlines()[1]
    entries = parse_proc_net_arp("\n".join(["head", line, good, ""]))
    assert [entry.address for entry in entries] == ["192.168.1.254"]


def test_a_machine_without_proc_and_without_arp_warns_once_and_has_an_empty_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def no_program(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "arp")

    monkeypatch.setattr(arp, "PROC_ARP", tmp_path / "absent")
    monkeypatch.setattr(subprocess, "run", no_program)
    assert arp.read_arp_table() == []
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "addresses=" in warnings[0].getMessage()


def test_an_arp_program_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def hang(command: list[str], *, timeout: float, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(arp, "PROC_ARP", tmp_path / "absent")
    monkeypatch.setattr(arp, "find_program", str)
    monkeypatch.setattr(subprocess, "run", hang)
    assert arp.read_arp_table() == []
    assert "timed out" in caplog.text
