"""What an event to a healthy peer costs while another broker is sick, beside the same without."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker
from tests.faults.proxy import FaultProxy

from .figure import Figure, Result, Size, judged, middle, percentile_99
from .stage import Role, add_sink, chart_at, roles

RATE = 1_000.0
THIN = 32_000.0
"""Bytes a second in each direction."""

FAR_S, FAR = 0.05, 1_000_000.0
"""The delay in each direction, in seconds, and bytes a second, of a slow link that keeps up."""

FAR_FOR_S = 1.0
"""So long the link is slow before it is measured."""

LIMITS = {"slow_after_s": 1.0, "absent_after_s": 1.0, "backlog_events": 2_000}
"""Found in a second, and full in two more: at the defaults the turns would take minutes."""

FULL_S = 2.5
"""From noticed until the backlog is full, and its oldest events are dropped."""

WINDOWS, WINDOW_S = 4, 1.0
"""So many in a row; the median of their percentiles counts, as single ones show the machine's
other work."""

HEALED_S = 60.0

KINDS = {
    "alone": "no broker is sick",
    "thin": f"beside a link of {THIN / 1e3:.0f} kB/s",
    "alarm": "beside a broker with an alarm",
    "far": f"beside a link of {FAR / 1e6:.0f} MB/s with {2e3 * FAR_S:.0f} ms there and back",
}


class Trio:
    """Three nodes: that of the sender, that of the healthy receiver, and the one that gets sick.

    The sick one is reached through a relay. Its queue takes the events and keeps few of them.
    """

    def __init__(self, nodes: tuple[LocalBroker, LocalBroker, LocalBroker], relay: FaultProxy):
        own, healthy, self.sick = nodes
        self.relay = relay
        key = Fernet.generate_key().decode()
        addresses = [str(own.address), str(healthy.address), str(relay.address)]
        self.sender, self.receiver = (chart_at(one, key, addresses) for one in (own, healthy))
        add_sink(str(self.sick.url()))

    @contextlib.contextmanager
    def thin(self) -> Iterator[None]:
        """The link to the sick one is thin."""
        self.relay.slow_down(bytes_a_second=THIN)
        try:
            yield
        finally:
            self.relay.heal()

    @contextlib.contextmanager
    def far(self) -> Iterator[None]:
        """The link to the third is slow, and keeps up."""
        self.relay.slow_down(delay_s=FAR_S, bytes_a_second=FAR)
        try:
            yield
        finally:
            self.relay.heal()

    @contextlib.contextmanager
    def alarm(self) -> Iterator[None]:
        """The sick one lets nobody publish."""
        self.sick.ctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self.sick.ctl("set_vm_memory_high_watermark", "0.4")


@contextlib.contextmanager
def open_trio() -> Iterator[Trio]:
    """Start the nodes."""
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(LocalBroker("127.0.0.2"))
        healthy, sick = (
            stack.enter_context(LocalBroker(host, password=own.password))
            for host in ("127.0.0.3", "127.0.0.4")
        )
        relay = stack.enter_context(FaultProxy(sick.host, sick.address))
        yield Trio((own, healthy, sick), relay)


def isolation(trio: Trio, size: Size) -> Result:
    """An event to a healthy peer at 1,000 events a second; the kinds take turns in each run."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    p99: dict[str, list[float]] = {kind: [] for kind in KINDS}
    slowest: dict[str, list[float]] = {kind: [] for kind in KINDS}
    refused = 0
    parts = (
        ("steady.steady_receive", {"chart": trio.receiver}),
        ("steady.steady_send", {"chart": trio.sender, "rate": RATE, "limits": LIMITS}),
    )
    address = str(trio.relay.address)
    with roles(*parts) as (receiving, sending):
        sending.ask(WINDOW_S)  # warms up

        def measure(kind: str) -> None:
            nonlocal refused
            for _number in range(WINDOWS):
                window = sending.ask(WINDOW_S)
                time.sleep(0.5)  # the last ones are under way
                latencies = receiving.ask([window["began_s"], window["ended_s"]])
                taken[kind] += latencies
                p99[kind].append(percentile_99(latencies))
                slowest[kind].append(window["slowest_s"])
                refused += window["refused"]

        for _ in range(max(2, size.runs // 2)):
            for kind, sickness in (("thin", trio.thin), ("alarm", trio.alarm)):
                measure("alone")
                with sickness():
                    _wait_until(sending, address, lambda name: name in ("SLOW", "STALLED"))
                    sending.ask(FULL_S)
                    measure(kind)
                _wait_until(sending, address, lambda name: name == "KEEPING_UP")
            with trio.far():
                sending.ask(FAR_FOR_S)
                measure("far")
            _wait_until(sending, address, lambda name: name == "KEEPING_UP")
    figures: list[Figure] = []
    for what, values, at_most in (
        ("median", {kind: middle(times) for kind, times in taken.items()}, None),
        ("99th percentile", {kind: middle(times) for kind, times in p99.items()}, 2.0),
        ("the slowest transmit", {kind: max(times) for kind, times in slowest.items()}, None),
    ):
        figures += [
            judged(
                "isolation",
                f"{words}, {what}",
                values[kind] * 1e3,
                "ms",
                to=values["alone"] * 1e3,
                at_most=None if kind == "alone" else at_most,
            )
            for kind, words in KINDS.items()
        ]
    figures.append(judged("isolation", "transmit raised", refused, "times", at_most=0))
    return Result(figures, {"p99_s": p99})


def _wait_until(sending: Role, address: str, holds: Callable[[str], bool]) -> None:
    """Wait until the sender sees a broker in a condition."""
    ends_s = time.monotonic() + HEALED_S
    while not holds(sending.ask(address)):
        assert time.monotonic() < ends_s, f"{address} {sending.ask(address)}"
        time.sleep(0.1)
