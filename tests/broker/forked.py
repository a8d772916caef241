"""A program with a running chart and a publisher that forks, and whose child goes on with its own.

Run as ``python -m tests.broker.forked < arguments``: pickled and in hexadecimal, the arguments of a
chart, and the URL of its broker. Both processes send numbers from 0, before and after.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

from miros import Event

from miros_rabbitmq import Codec, NetworkStopped, PikaTopicPublisher
from miros_rabbitmq.wire.envelope import MESH

from ..helpers import end_child, scaled
from .charts import Chart, make_active_object, running

COUNT = 20


def say(chart: Chart, signal: str, numbers: range) -> None:
    """Have a chart send numbers."""
    for number in numbers:
        chart.transmit(Event(signal=signal, payload=number))
    assert chart.nets.flush(scaled(25))


def post(publisher: PikaTopicPublisher, signal: str, numbers: range) -> None:
    """Have a publisher send numbers."""
    for number in numbers:
        publisher.post_fifo((signal, number))
    assert publisher.flush(scaled(25))


def in_child(parent: Chart, publisher: PikaTopicPublisher, arguments: dict[str, Any]) -> int:
    """Go on in the child, with a chart of its own and the inherited publisher; 0 if all is well."""
    try:
        parent.transmit(Event(signal="PARENT", payload="from the child"))
    except NetworkStopped:
        pass
    else:
        return 1
    chart, _ = make_active_object("child", **arguments)
    with running(chart):
        publisher.start_thread()
        assert publisher.wait_until_ready(scaled(25))
        say(chart, "CHILD", range(COUNT))
        post(publisher, "CHILDS_PUBLISHER", range(COUNT))
        assert publisher.stop_thread()
    return 0


def main() -> None:
    arguments, url = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    chart, _ = make_active_object("parent", **arguments)
    codec = Codec(arguments["mesh_encryption_key"])
    publisher = PikaTopicPublisher(
        url, MESH, arguments["tx_routing_key"], codec=codec, name="publisher"
    )
    publisher.start_thread()
    with running(chart):
        say(chart, "PARENT", range(COUNT))
        post(publisher, "PARENTS_PUBLISHER", range(COUNT))
        child = os.fork()
        if not child:
            status = 2
            try:
                status = in_child(chart, publisher, arguments)
            finally:
                end_child(status)
        say(chart, "PARENT", range(COUNT, 2 * COUNT))
        post(publisher, "PARENTS_PUBLISHER", range(COUNT, 2 * COUNT))
        _, status = os.waitpid(child, 0)
        say(chart, "PARENT", range(2 * COUNT, 3 * COUNT))
    assert publisher.stop_thread()
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
