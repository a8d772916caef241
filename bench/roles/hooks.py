"""Where the processor time of an event goes: hooks around the steps of a sender and a receiver.

A hook counts the processor time of its thread (`time.thread_time`) between the entry and the return
of one function, without what is spent in other hooks meanwhile. What the hooks themselves cost is
measured first and taken off. Functions that do not exist (any more) are skipped: their time then
belongs to the step around them.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A function that is a step of an event's way."""

    label: str
    module: str
    path: str
    """Class and method, or function."""
    opaque: bool = False
    """Whether the work of other steps within this one belongs to it."""


_PACKAGE = "miros_rabbitmq"
_AMQP, _NETS, _WIRE = (f"{_PACKAGE}.{name}" for name in ("amqp", "nets", "wire"))

STEPS = (
    # Both sides: their connections.
    Step("I/O loop", f"{_AMQP}.reactor", "Reactor._select"),
    Step("read and parse frames", f"{_AMQP}.native", "NativeTap.data_received"),
    Step("read and parse frames", "pika.connection", "Connection._on_data_available"),
    Step("socket: receive", "socket", "socket.recv"),
    Step("socket: send", "socket", "socket.send"),
    # The sender.
    Step("transmit: checks, room, order", f"{_NETS}.nets", "MirosNets.transmit"),
    Step("serialize (pickle)", f"{_WIRE}.codec", "Codec.serialize"),
    Step("serialize (pickle)", f"{_WIRE}.pickling", "RestrictedPickle.dumps"),
    Step("check the pickle's opcodes", f"{_WIRE}.pickling", "check_opcodes"),
    Step("number", f"{_WIRE}.sealer", "Sealer.seal"),
    Step("number", f"{_WIRE}.sealer", "Sealer.commit"),
    Step("pack and encrypt (AES-GCM)", f"{_WIRE}.sealer", "Sealer._encrypt"),
    Step("queue", f"{_AMQP}.sender", "Sender.enqueue"),
    Step("wake up another thread", f"{_AMQP}.reactor", "Reactor.wake", opaque=True),
    Step("collect a message", f"{_AMQP}.sender", "Sender._on_beat"),
    Step("collect a message", f"{_AMQP}.sender", "Sender._send"),
    Step("collect a message", f"{_AMQP}.sender", "Sender.attend"),
    Step("marshal a message", "pika.channel", "Channel.basic_publish"),
    Step("marshal a message", f"{_AMQP}.native", "Publishing.publish"),
    Step("note confirms", f"{_AMQP}.sender", "Sender._settle"),
    # The receiver.
    Step("take a message apart", f"{_AMQP}.receiver", "Receiver._on_delivery"),
    Step("take a message apart", f"{_AMQP}.envelopes", "EnvelopeTaker.take"),
    Step("take a message apart", f"{_WIRE}.opener", "Opener.open"),
    Step("decrypt (AES-GCM)", f"{_WIRE}.opener", "Opener._decrypt"),
    Step("unpack", f"{_AMQP}.envelopes", "unpack"),
    Step("unpack", f"{_AMQP}.envelopes", "EnvelopeTaker._read"),
    Step("load (pickle)", f"{_WIRE}.codec", "Codec.deserialize"),
    Step("load (pickle)", f"{_WIRE}.pickling", "RestrictedPickle.loads"),
    Step("duplicate check", f"{_AMQP}.freshness", "Freshness.take"),
    Step("check the signal's name", f"{_NETS}.nets", "MirosNets._admit"),
    Step("post to the chart", f"{_NETS}.nets", "MirosNets._receive"),
    Step("post to the chart", "miros", "ActiveObject.post_fifo"),
    Step("post to the chart", f"{_PACKAGE}.chart.fifo", "ChartFifo.append"),
    Step("acknowledge", f"{_AMQP}.receiver", "Receiver._acknowledge"),
    Step("acknowledge", f"{_AMQP}.native", "Deliveries.acknowledge"),
    Step("handle the event (miros)", "miros", "HsmWithQueues.next_rtc"),
)

REST = "the rest of the process"


class _Count:
    """What one thread spent in one step."""

    __slots__ = ("calls", "inner_calls", "own_s")

    def __init__(self) -> None:
        self.own_s = 0.0
        self.calls = 0
        self.inner_calls = 0


class _Thread(threading.local):
    """The steps that a thread is in, the outermost first."""

    def __init__(self, everything: list[dict[str, _Count]]) -> None:
        # For each: the time in steps within it, and their number.
        self.stack: list[list[float]] = []
        self.is_opaque = False
        self.counts: dict[str, _Count] = defaultdict(_Count)
        everything.append(self.counts)


class Hooks:
    """The hooks of one process.

    Args:
        wanted: whether to hook anything; the time of the process is counted in any case.
    """

    def __init__(self, wanted: bool) -> None:
        self._all: list[dict[str, _Count]] = []
        self._local = _Thread(self._all)
        self._inside_s = self._outside_s = 0.0
        self._wanted = wanted
        self._began_s = 0.0
        if wanted:
            self._calibrate()
            for step in STEPS:
                self._hook(step)

    def begin(self) -> None:
        """Count from here on."""
        for counts in self._all:
            counts.clear()
        self._began_s = time.process_time()

    def report(self, events: int) -> dict[str, Any]:
        """Microseconds of processor time for each event: of the process, and of the steps."""
        total_us = (time.process_time() - self._began_s) / events * 1e6
        if not self._wanted:
            return {"cpu_us": total_us}
        steps: dict[str, float] = defaultdict(float)
        overhead_us = 0.0
        for counts in self._all:
            for label, count in list(counts.items()):
                spent_s = count.calls * self._inside_s + count.inner_calls * self._outside_s
                overhead_us += count.calls * (self._inside_s + self._outside_s) / events * 1e6
                steps[label] += (count.own_s - spent_s) / events * 1e6
        known_us = sum(steps.values())
        steps[REST] = max(0.0, total_us - overhead_us - known_us)
        return {"cpu_us": total_us, "steps": dict(steps)}

    def _hook(self, step: Step) -> None:
        holder: Any = importlib.import_module(step.module)
        *classes, name = step.path.split(".")
        for one in classes:
            holder = getattr(holder, one, None)
        function = getattr(holder, name, None)
        if function is not None:
            setattr(holder, name, self._wrapped(function, step.label, step.opaque))

    def _wrapped(
        self, function: Callable[..., Any], label: str, opaque: bool
    ) -> Callable[..., Any]:
        local, clock = self._local, time.thread_time

        def step(*arguments: Any, **options: Any) -> Any:
            if local.is_opaque:
                return function(*arguments, **options)
            counts, stack, inner = local.counts, local.stack, [0.0, 0.0]
            stack.append(inner)
            local.is_opaque = opaque
            began_s = clock()
            try:
                return function(*arguments, **options)
            finally:
                took_s = clock() - began_s
                local.is_opaque = False
                stack.pop()
                count = counts[label]
                count.own_s += took_s - inner[0]
                count.calls += 1
                count.inner_calls += int(inner[1])
                if stack:
                    stack[-1][0] += took_s
                    stack[-1][1] += 1

        return step

    def _calibrate(self) -> None:
        """Measure what a hook counts of itself, and what it costs the step around it."""
        rounds = 20_000

        def nothing() -> None:
            pass

        hooked = self._wrapped(nothing, "", opaque=False)
        began_s = time.thread_time()
        for _ in range(rounds):
            hooked()
        with_hook_s = (time.thread_time() - began_s) / rounds
        began_s = time.thread_time()
        for _ in range(rounds):
            nothing()
        without_s = (time.thread_time() - began_s) / rounds
        counted_s = self._local.counts.pop("").own_s / rounds
        self._inside_s = max(0.0, counted_s - without_s)
        self._outside_s = max(0.0, with_hook_s - counted_s)
