"""A probe connects only where it may. What it finds there is tested on real brokers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from miros_rabbitmq.discovery import probe
from miros_rabbitmq.discovery.outcome import ProbeOutcome
from miros_rabbitmq.discovery.probe import probe_all
from miros_rabbitmq.discovery.search import Login
from miros_rabbitmq.resolve import Target
from miros_rabbitmq.urls import Address

NAME, LOGIN = Address("kitchen.example", 5671), Login("user", "p4ssw0rd")


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Where it connects to; nobody is there."""
    targets: list[object] = []

    async def resolve(address: Address, timeout_s: float) -> list[Target]:
        return [Target(socket.AF_INET, ip, address.port) for ip in ("127.0.0.1", "127.0.0.9")]

    async def connect(loop: object, connection: object, target: object) -> None:
        targets.append(target)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(probe, "resolve", resolve)
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    return targets


def test_each_ip_address_of_a_host_is_judged_before_it_is_connected_to(
    connected: list[object],
) -> None:
    asked = []

    def may_connect(address: Address, ip: str) -> bool:
        asked.append((address, ip))
        return ip.endswith(".9")

    (row,) = probe_all([NAME], LOGIN, may_connect=may_connect)
    assert row.outcome is ProbeOutcome.REFUSED
    assert connected == [("127.0.0.9", NAME.port)]
    assert asked == [(NAME, "127.0.0.1"), (NAME, "127.0.0.9")]


def test_a_host_at_none_of_whose_addresses_it_may_connect_is_unknown(
    connected: list[object],
) -> None:
    (row,) = probe_all([NAME], LOGIN, may_connect=lambda *_: False)
    assert row.outcome is ProbeOutcome.UNKNOWN_HOST
    assert row.detail == "it is at 127.0.0.1, where no broker that others announce is looked for"
    assert connected == []


def test_without_a_judge_all_are_tried(connected: list[object]) -> None:
    probe_all([NAME], LOGIN)
    assert len(connected) == 2
