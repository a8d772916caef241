"""What a node costs its process: transmit, silence, the start, peers, being watched."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import Address, AmqpUrl, NetworkedActiveObject

from .talk import PAYLOAD, asked, hear, memory_mib, play, say, threads


class VhostUrl(AmqpUrl):
    """The URL of a virtual host that counts as a broker of its own.

    Peers are told apart by host and port, which the virtual hosts of one node share.
    """

    __slots__ = ()

    @property
    def address(self) -> Address:
        """Host and port, and the virtual host with the host."""
        host, port = super().address
        return Address(f"{host}/{self.rpartition('/')[2]}", port)


@spy_on
def resting(chart: Any, e: Event) -> Any:
    """Handles nothing."""
    if e.signal == signals.NOTHING:
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def _add_peers(node: NetworkedActiveObject, urls: list[str]) -> None:
    """Have the mesh of a chart publish to these, too; return when it can."""
    mesh = node.nets.node.mesh
    for url in urls:
        mesh.add_broker(VhostUrl(url))
    for publisher in mesh.senders.values():
        assert publisher.link.wait_until_ready(20)


def transmit_cost(
    chart: dict[str, Any], urls: list[str], pauses: int, pause_s: float, **_: Any
) -> None:
    """Processor time of the calling thread for each `transmit`; in a loop, and one at a time."""
    with NetworkedActiveObject("wide", **chart) as node:
        node.start_at(resting)
        _add_peers(node, urls)
        say("ready")
        event = Event(signal=signals.PING, payload=PAYLOAD)
        for count in asked():
            began_s = time.thread_time()
            for _number in range(count):
                node.transmit(event)
            loop_s = time.thread_time() - began_s
            node.nets.flush(60)
            paced_s = 0.0
            for _number in range(pauses):
                time.sleep(pause_s)  # every queue has run empty
                began_s = time.thread_time()
                node.transmit(event)
                paced_s += time.thread_time() - began_s
            node.nets.flush(20)
            say({"loop_us": loop_s / count * 1e6, "paced_us": paced_s / pauses * 1e6})


def peers_cost(
    chart: dict[str, Any], urls: list[str], steps: list[int], broadcasts: int, **_: Any
) -> None:
    """Memory and threads with more and more peers, and the time until all have confirmed."""
    report = []
    with NetworkedActiveObject("wide", **chart) as node:
        node.start_at(resting)
        say("ready")
        hear()
        for step in steps:
            _add_peers(node, urls[: step - 1])  # its own broker is the first
            times = []
            for _number in range(broadcasts):
                time.sleep(0.02)
                began_s = time.perf_counter()
                node.transmit(Event(signal=signals.PING, payload=PAYLOAD))
                assert node.nets.flush(20)
                times.append(time.perf_counter() - began_s)
            gc.collect()
            report.append(
                {
                    "peers": step,
                    "memory_mib": memory_mib(),
                    "threads": threads(),
                    "broadcast_s": statistics.median(times),
                    "broadcast_max_s": max(times),
                }
            )
    say(report)


def idle(chart: dict[str, Any], silence_s: float, **_: Any) -> None:
    """Processor time of a process whose chart has nothing to do, with three networks."""
    with NetworkedActiveObject("idle", **chart) as node:
        node.enable_snoop_trace()
        node.enable_snoop_spy()
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
        node.start_at(resting)
        assert node.nets.wait_for_peers(1, 5)
        time.sleep(3)
        say("ready")
        hear()
        began_s, wall_s = time.process_time(), time.perf_counter()
        time.sleep(silence_s)
        cpu_s, wall_s = time.process_time() - began_s, time.perf_counter() - wall_s
        report = {"core": cpu_s / wall_s, "threads": threads()}
    say(report)


@spy_on
def noting(chart: Any, e: Event) -> Any:
    """Notes when the first event has come."""
    if e.signal == signals.TICK:
        if not chart.arrived_s:
            chart.arrived_s = time.perf_counter()
            chart.arrived.set()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def start(chart: dict[str, Any], **_: Any) -> None:
    """From the construction of a chart to the first event of another that it handles."""
    say("ready")
    hear()
    began_s = time.perf_counter()
    with NetworkedActiveObject("start", **chart) as node:
        node.arrived_s = 0.0
        node.arrived = threading.Event()
        node.start_at(noting)
        started_s = time.perf_counter()
        node.arrived.wait(10)
        report = {"started_s": started_s - began_s, "first_event_s": node.arrived_s - began_s}
    say(report)


def tick(chart: dict[str, Any], **_: Any) -> None:
    """The peer that runs already: sends an event every 2 ms, until asked to stop."""
    asked = threading.Event()

    def wait_for_end() -> None:
        hear()
        asked.set()

    with NetworkedActiveObject("tick", **chart) as node:
        node.start_at(resting)
        assert node.nets.wait_for_peers(1, 5)
        threading.Thread(target=wait_for_end, daemon=True).start()
        say("ready")
        while not asked.wait(0.002):
            node.transmit(Event(signal=signals.TICK))
    say({})


if __name__ == "__main__":
    play(globals())
