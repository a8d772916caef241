"""What a sweep cannot do is said once in a process, though there is a sweep each minute."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

from miros_rabbitmq.discovery import arp, sweep
from miros_rabbitmq.discovery.lan import LocalAreaNetwork


def test_a_missing_ping_and_a_missing_arp_are_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "program")

    monkeypatch.setattr(subprocess, "Popen", missing)
    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(sys, "platform", "other")
    monkeypatch.setattr(sweep, "_said", set())
    monkeypatch.setattr(arp, "_said", set())
    caplog.set_level(logging.INFO, "miros_rabbitmq")
    interface = LocalAreaNetwork([]).interface
    for _ in range(3):
        assert sweep._start_broadcast_ping(interface) is None
        assert arp.read_arp_table() == []
    texts = [one.getMessage() for one in caplog.records]
    assert len([one for one in texts if "is not pinged" in one]) == 1
    assert len([one for one in texts if "ARP table cannot be read" in one]) == 1
