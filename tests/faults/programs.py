"""Programs that end in every way a program can; run as ``python -m tests.faults.programs NAME``.

The chart's arguments come pickled and in hexadecimal on the first line of standard input.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from miros import Event

from miros_rabbitmq import NetworkedActiveObject, NetworkStopped

from ..broker.charts import listening, make_active_object
from ..helpers import end_child

COUNT = 5_000


def talk(chart: NetworkedActiveObject, count: int = COUNT) -> None:
    """Transmit numbers as fast as possible."""
    for number in range(count):
        chart.transmit(Event(signal="NUMBER", payload=number))


def main_thread_ends(chart: NetworkedActiveObject) -> None:
    """Nobody stops the chart."""
    talk(chart)


def sys_exit(chart: NetworkedActiveObject) -> None:
    """From the middle of things."""
    talk(chart)
    sys.exit(0)


def context_manager(chart: NetworkedActiveObject) -> None:
    """Use the chart as in the README; nothing is left for the end of the interpreter."""
    with chart:
        talk(chart)
    end_child(0)


def uncaught_error(chart: NetworkedActiveObject) -> None:
    """The program ends with a traceback."""
    talk(chart)
    raise RuntimeError("of the program's own making")


def sigterm(chart: NetworkedActiveObject) -> None:
    """With the one line of the documentation, SIGTERM ends a program as ``sys.exit`` does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    talk(chart)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(60)


def fork(chart: NetworkedActiveObject) -> None:
    """A child may neither use nor harm the parent's connections."""
    talk(chart, COUNT // 2)
    child = os.fork()
    if child == 0:
        try:
            in_child(chart)
            chart.stop()
        except BaseException:  # noqa: BLE001  # the child must not run on as the parent
            traceback.print_exc()
            end_child(1)
        sys.exit(0)  # runs what is registered for the interpreter's exit
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    process = multiprocessing.get_context("fork").Process(target=in_child, args=(chart,))
    process.start()
    process.join()
    assert process.exitcode == 0
    for number in range(COUNT // 2, COUNT):
        chart.transmit(Event(signal="NUMBER", payload=number))


def in_child(chart: NetworkedActiveObject) -> None:
    """Calls on the parent's objects raise clearly; a stop returns at once."""
    for publisher in chart.nets.node.mesh.senders.values():
        refuses(publisher.enqueue, b"of the child")
    refuses(chart.transmit, Event(signal="NUMBER", payload=-1))
    assert chart.nets.stats().mesh.transmitted == COUNT // 2


def refuses(call: Callable[[Any], object], argument: object) -> None:
    """Check that a call raises an error which says that the object is the parent's."""
    said = ""
    try:
        call(argument)
    except NetworkStopped as error:
        said = str(error)
    assert "parent" in said


def steady(chart: NetworkedActiveObject) -> None:
    """Transmit now and then, until there is a line to read; what is logged is printed."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    asked = threading.Event()

    def wait_for_a_line() -> None:
        sys.stdin.readline()
        asked.set()

    threading.Thread(target=wait_for_a_line, daemon=True).start()
    print("talks", flush=True)
    number = 0
    while not asked.wait(0.01):
        chart.transmit(Event(signal="NUMBER", payload=number))
        number += 1
    chart.stop()
    print("ends", flush=True)


def main(name: str) -> None:
    """Start the chart, and do as the name says."""
    arguments = pickle.loads(bytes.fromhex(sys.stdin.readline()))
    chart, _ = make_active_object("program", **arguments)
    chart.start_at(listening)
    assert name == "steady" or chart.nets.wait_for_peers(1, 10)  # that one is alone
    globals()[name](chart)


if __name__ == "__main__":
    main(sys.argv[1])
