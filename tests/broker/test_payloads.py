"""Payloads beyond plain data, from chart to chart: refused where they are sent, or they arrive."""

from __future__ import annotations

import array
import dataclasses
import pathlib
import threading
import zoneinfo
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import LocalBroker, PayloadRefused

from ..helpers import scaled
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a sensor says."""

    celsius: float
    at: pathlib.PurePosixPath


class Unreachable(Exception):
    """Pickles, and does not load."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port}")


CLASSES = [Reading, pathlib.PurePosixPath, array.array, zoneinfo.ZoneInfo, Unreachable]
ARRIVING: list[Any] = [
    Reading(21.5, pathlib.PurePosixPath("/attic")),
    array.array("d", [1.0, 2.0]),
    zoneinfo.ZoneInfo("Europe/Berlin"),
    Reading,
]
REFUSED: list[Any] = [Unreachable("host", 1), threading.Lock(), lambda: None, iter([])]


def test_what_transmit_takes_arrives_and_what_it_refuses_reaches_no_receiver(
    broker_a: LocalBroker,
) -> None:
    arguments = arguments_for(broker_a, key=KEY, allowed_classes=CLASSES)
    sender, _ = make_active_object("sender", **arguments)
    receiver, heard = make_active_object("receiver", **arguments)
    with running(sender, receiver):
        for payload in ARRIVING:
            sender.transmit(Event(signal="X", payload=payload))
            for refused in REFUSED:
                with pytest.raises(PayloadRefused, match="the event X cannot be serialized"):
                    sender.transmit(Event(signal="X", payload=[refused]))
        assert sender.nets.flush(scaled(25))
        heard.wait_for(len(ARRIVING))
        stats = receiver.nets.stats().mesh
    assert heard.payloads("X") == ARRIVING
    assert not stats.rejected
    assert not stats.gaps
