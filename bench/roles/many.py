"""Many charts: in one process, in many processes, and one that sends by many routing keys."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

from .alone import counting
from .hooks import Hooks
from .talk import PAYLOAD, asked, hear, memory_mib, play, say, threads

EVENTS, PAUSE_S = 100, 0.03
"""Sent right after a start, so far apart: each goes to all charts."""

SETTLE_S = 2.5
"""After this, what a start has set in motion is over."""


@spy_on
def noting(chart: Any, e: Event) -> Any:
    """Notes how long each event took."""
    if e.signal == signals.TIMED:
        sent_s, is_last = e.payload
        # The clock is the same in all processes of a machine.
        chart.taken.append(time.perf_counter() - sent_s)
        if is_last:
            chart.done.set()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def _start(name: str, chart: dict[str, Any]) -> NetworkedActiveObject:
    node = NetworkedActiveObject(name, **chart)
    node.taken = []
    node.done = threading.Event()
    node.start_at(noting)
    return node


def _send(node: NetworkedActiveObject) -> None:
    for number in range(EVENTS):
        payload = (time.perf_counter(), number == EVENTS - 1)
        node.transmit(Event(signal=signals.TIMED, payload=payload))
        time.sleep(PAUSE_S)


def many(chart: dict[str, Any], silence_s: float, **_: Any) -> None:
    """Start more and more charts in this process; after each step tell what they cost."""
    nodes: list[NetworkedActiveObject] = []
    say("ready")
    for step in asked():
        started_s = cpu_s = 0.0
        while len(nodes) < step:
            time.sleep(0.01)
            cpu_s, began_s = time.process_time(), time.perf_counter()
            nodes.append(_start(f"chart {len(nodes)}", chart))
            started_s = time.perf_counter() - began_s
        last, taken = nodes[-1], []
        if step > 1:
            # The first sends, and the one that has just started hears it.
            last.taken.clear()
            _send(nodes[0])
            assert last.done.wait(20)
            taken = list(last.taken)
        time.sleep(SETTLE_S)
        cpu_s, began_s = time.process_time(), time.perf_counter()
        time.sleep(silence_s)
        core = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
        # One more, while all others rest.
        cpu_s = time.process_time()
        nodes.append(_start(f"chart {len(nodes)}", chart))
        time.sleep(SETTLE_S)
        newcomer_s = time.process_time() - cpu_s - core * SETTLE_S
        nodes.pop().stop()
        gc.collect()
        say(
            {
                "start_s": started_s,
                "taken": taken,
                "core": core,
                "newcomer_s": newcomer_s,
                "threads": threads(),
                "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
                "memory_mib": memory_mib(),
            }
        )
    stopping = [threading.Thread(target=node.stop) for node in nodes]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join()


def _member(number: int, chart: dict[str, Any], pipe: Connection) -> None:
    """One of the processes: starts when told, sends when told, and tells how long events took."""
    pipe.recv()
    began_s = time.perf_counter()
    node = _start(f"member {number}", chart)
    pipe.send(time.perf_counter() - began_s)
    while (order := pipe.recv()) != "end":
        if order == "send":
            _send(node)
        elif order == "cpu":
            pipe.send(time.process_time())
        else:
            assert node.done.wait(20)
            pipe.send(node.taken)
    node.stop()


def fleet(chart: dict[str, Any], processes: int, silence_s: float, **_: Any) -> None:
    """Processes with a chart each at one broker, forked as their imports are not the matter."""
    context = multiprocessing.get_context("fork")
    pipes, children = [], []
    for number in range(processes):
        here, there = context.Pipe()
        child = context.Process(target=_member, args=(number, chart, there), daemon=True)
        child.start()
        pipes.append(here)
        children.append(child)
    say("ready")
    hear()
    started_s = 0.0

    def used_s() -> float:
        for pipe in pipes:
            pipe.send("cpu")
        return float(sum(pipe.recv() for pipe in pipes))

    for pipe in pipes:
        pipe.send("start")
        started_s = pipe.recv()
    pipes[0].send("send")
    pipes[-1].send("taken")
    taken = pipes[-1].recv()
    time.sleep(SETTLE_S)
    cpu_s, began_s = used_s(), time.perf_counter()
    time.sleep(silence_s)
    core = (used_s() - cpu_s) / (time.perf_counter() - began_s)
    say({"start_s": started_s, "taken": taken, "core": core})
    for pipe in pipes:
        pipe.send("end")
    for child in children:
        child.join()


def by_keys(chart: dict[str, Any], hooked: bool = False, **_: Any) -> None:
    """Transmit as fast as possible, by some routing keys in turn."""
    hooks = Hooks(hooked)
    with NetworkedActiveObject("send", **chart) as node:
        node.start_at(counting)
        node.nets.wait_for_peers(1, 5)
        mesh = node.nets.node.mesh
        say("ready")
        for count, keys in asked():
            names = [f"bench.{number}" for number in range(keys)]
            sent = node.nets.stats().mesh.brokers
            messages = sum(one.messages for one in sent.values())
            hooks.begin()
            began_s = time.time()
            for number in range(count):
                mesh.transmit(("PING", PAYLOAD), 20.0, routing_key=names[number % keys])
            node.nets.flush(60)
            sent = node.nets.stats().mesh.brokers
            messages = sum(one.messages for one in sent.values()) - messages
            say({"began": began_s, "messages": messages / len(sent), **hooks.report(count)})


if __name__ == "__main__":
    play(globals())
