"""A fleet: one sender, several brokers with a receiver at each, and a ledger for each receiver.

The sender transmits at a steady rate, while the test makes one of the brokers sick (`sickness`).
Of every event it is known when it was transmitted, how long ``transmit`` took, and when each
receiver had handled it. So what the sick broker costs the others can be measured beside the same
traffic without it.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    BackPressure,
    Limits,
    LocalBroker,
    NetworkedActiveObject,
)
from miros_rabbitmq.amqp.sender import PublisherStats
from miros_rabbitmq.delivery.slowness import Condition
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.urls import Address

from ..broker.charts import Record, listening, make_active_object
from ..helpers import scaled, wait_until
from .ledger import Account, Ledger
from .proxy import FaultProxy

SENDER = "sender"

FLAT_OUT = 0.0
"""The rate of a sender that never pauses."""

QUICK = Limits(
    slow_after_s=1.0, absent_after_s=1.0, behind_after_s=0.4, backlog_events=1_500, stop_timeout_s=2
)
"""Limits with which sickness is found in a second or two."""

_SLICE_S = 0.005
_LATE_S = 0.05
"""A stream that is late by more does not catch up: a burst would be another load."""


class Heard(Record):
    """Books what a receiver hears, and how long each event took."""

    def __init__(self, name: str, ledger: Ledger, work_s: float) -> None:
        super().__init__()
        self._name, self._ledger, self.work_s = name, ledger, work_s
        self.took: list[tuple[float, float]] = []
        """When each event was transmitted, and the seconds until it was handled."""
        self.gate = threading.Event()
        """While it is not set, the receiver is stuck in its handler."""
        self.gate.set()

    def note(self, event: Event) -> None:
        if event.signal_name == "NUMBER":
            sender, number, sent_s, _ = event.payload
            self._ledger.deliver(self._name, sender, number)
            self.took.append((sent_s, time.perf_counter() - sent_s))
            self.gate.wait()
            if self.work_s:
                time.sleep(self.work_s)


class Sample(NamedTuple):
    """What some seconds of traffic were like for the receivers at healthy brokers."""

    events: int
    """Transmitted."""
    median_s: float
    """From transmitted to handled."""
    p99_s: float
    slowest_transmit_s: float

    def __str__(self) -> str:
        return (
            f"{self.events:6,} events, median {self.median_s * 1e3:8.2f} ms, p99 "
            f"{self.p99_s * 1e3:8.2f} ms, slowest transmit {self.slowest_transmit_s * 1e3:8.2f} ms"
        )


class Stream:
    """A thread that transmits the ledger's numbers at a rate, until it is stopped.

    Args:
        chart: whose ``transmit`` it calls.
        ledger: where each event is booked.
        rate: events a second, or `FLAT_OUT`.
        padding: bytes in each event besides.
    """

    def __init__(
        self, chart: NetworkedActiveObject, ledger: Ledger, rate: float, padding: int = 0
    ) -> None:
        self._chart, self._ledger = chart, ledger
        self._rate, self._padding = rate, b"x" * padding
        self._stop = threading.Event()
        self.refused = 0
        """How often ``transmit`` raised."""
        self.took: list[tuple[float, float]] = []
        """When ``transmit`` was called, and for how long."""
        self._thread = threading.Thread(target=self._run, name="stream")

    def send(self, padding: bytes | None = None) -> None:
        """Transmit the next number. Not while the thread runs."""
        name = self._chart.name
        number = self._ledger.attempt(name)
        began_s = time.perf_counter()
        payload = (name, number, began_s, self._padding if padding is None else padding)
        try:
            self._chart.transmit(Event(signal="NUMBER", payload=payload))
        except BackPressure:
            self.refused += 1
        else:
            self._ledger.accept(name)
        finally:
            self.took.append((began_s, time.perf_counter() - began_s))

    def slowest_s(self, begin_s: float, end_s: float) -> float:
        """The slowest ``transmit`` that was called, or not over, within a time."""
        took = [one for at, one in self.took if at < end_s and at + one > begin_s]
        return max(took, default=0.0)

    @contextmanager
    def running(self) -> Iterator[Stream]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        if self._rate == FLAT_OUT:
            while not self._stop.is_set():
                self.send()
            return
        due_s = time.perf_counter()
        while not self._stop.wait(min(_SLICE_S, 1 / self._rate)):
            now_s = time.perf_counter()
            if now_s - due_s > max(_LATE_S, 2 / self._rate):
                due_s = now_s
            while due_s <= now_s and not self._stop.is_set():
                self.send()
                due_s += 1 / self._rate


class Lines(logging.Handler):
    """Keeps the package's warnings, and what it logs as an error of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.texts.append(text)
        if record.exc_info or "unexpected error" in text:
            self.errors.append(self.format(record))


class Fleet:
    """The sender and its brokers, by number; the sender's own broker is the first.

    Args:
        brokers: they run already.
        proxies: by number, the relays in front of some of them: there, everything but the receiver
            at the broker passes the relay's link.
        limits: of every chart.
        work_s: what a receiver needs for an event.
        **extras: further arguments of the charts.
    """

    def __init__(
        self,
        brokers: Sequence[LocalBroker],
        proxies: dict[int, FaultProxy],
        limits: Limits,
        work_s: float = 0.0,
        **extras: Any,
    ) -> None:
        self.brokers, self.proxies, self.limits = brokers, proxies, limits
        self.lines = Lines()
        self.addresses: list[Address] = [
            proxies[number].address if number in proxies else broker.address
            for number, broker in enumerate(brokers)
        ]
        names = [f"at{number}" for number in range(len(brokers))]
        self.ledger = Ledger([SENDER, *names])
        more = [str(one) for one in extras.pop("more_addresses", ())]
        self._arguments = {
            "rabbit_user": brokers[0].user,
            "rabbit_password": brokers[0].password,
            "mesh_encryption_key": Fernet.generate_key(),
            "addresses": [str(address) for address in self.addresses] + more,
            "start_timeout": scaled(10),
            "limits": limits,
            **extras,
        }
        self.sender, _ = make_active_object(SENDER, **self.arguments(0))
        self.receivers: list[NetworkedActiveObject] = []
        for at, name in enumerate(names):
            chart, _ = make_active_object(name, **self.arguments(at))
            self.receivers.append(chart)
        self.heard: list[Heard] = []
        for chart in self.receivers:
            chart.record = heard = Heard(chart.name, self.ledger, work_s)
            self.heard.append(heard)

    def arguments(self, at: int) -> dict[str, Any]:
        """The arguments of a chart whose own broker is that one."""
        host, port = self.addresses[at]
        return {**self._arguments, "rabbit_host": host, "rabbit_port": port}

    @contextmanager
    def running(self) -> Iterator[Fleet]:
        """Start everything; receivers at relayed brokers first, so that they count as near."""
        logger = logging.getLogger("miros_rabbitmq")
        logger.addHandler(self.lines)
        try:
            with ExitStack() as stack:
                for chart in (*self.receivers, self.sender):
                    stack.callback(chart.stop)
                for heard in self.heard:
                    stack.callback(heard.gate.set)
                near = [self.receivers[number] for number in self.proxies]
                for chart in near:
                    chart.start_at(listening)
                for chart in near:
                    assert chart.nets.wait_for_peers(len(self.brokers) - 1, scaled(25))
                for proxy in self.proxies.values():
                    proxy.spare_present()
                for chart in (*self.receivers, self.sender):
                    if chart not in near:
                        chart.start_at(listening)
                for chart in (*self.receivers, self.sender):
                    assert chart.nets.wait_for_peers(len(self.brokers) - 1, scaled(25))
                yield self
        finally:
            logger.removeHandler(self.lines)

    def stream(self, rate: float, padding: int = 0) -> Stream:
        """Something to transmit with."""
        return Stream(self.sender, self.ledger, rate, padding)

    def publisher(self, number: int) -> PublisherStats:
        """The sender's publisher to a broker."""
        return self.sender.nets.stats().mesh.brokers[str(self.addresses[number])]

    def conditions(self) -> list[Condition]:
        """How each broker keeps up, as the sender sees it."""
        return [self.publisher(number).condition for number in range(len(self.brokers))]

    def account(self, number: int) -> Account:
        """What became of the sender's events at a receiver."""
        return self.ledger.account(SENDER, f"at{number}")

    def dropped(self, number: int) -> int:
        """What the sender has counted as dropped for a broker."""
        return self.publisher(number).dropped

    def gaps(self, number: int) -> int:
        """What a receiver has counted as missing."""
        return self.receivers[number].nets.stats().mesh.gaps

    def wait_for_gaps(self, number: int) -> None:
        """Wait until a receiver has counted as missing just what it has lost."""
        wait_until(lambda: self.gaps(number) == self.account(number).lost, 10, self.describe)

    def said_of(self, number: int, text: str) -> list[str]:
        """The warnings of the sender about a broker that contain a text."""
        write_all(scaled(25))
        subject = f"of {SENDER} at {self.addresses[number]}"
        return [line for line in self.lines.texts if subject in line and text in line]

    def sample(self, stream: Stream, healthy: Collection[int], seconds: float) -> Sample:
        """Let the traffic go on for a time, and see what it was like for the healthy."""
        began_s = time.perf_counter()
        time.sleep(seconds)
        ended_s = time.perf_counter()
        last = self.ledger.accepted(SENDER) - 1
        wait_until(
            lambda: all(self.ledger.reached(SENDER, f"at{one}") > last for one in healthy),
            60,
            lambda: f"handled by the healthy; {self.describe()}",
        )
        worst = [
            [took for at, took in self.heard[one].took if began_s <= at < ended_s]
            for one in healthy
        ]
        assert all(len(times) > 1 for times in worst), self.describe()
        return Sample(
            min(len(times) for times in worst),
            max(statistics.median(times) for times in worst),
            max(statistics.quantiles(times, n=100)[98] for times in worst),
            stream.slowest_s(began_s, ended_s),
        )

    def wait_for_delivery(self, healthy: Collection[int], timeout: float = 60.0) -> None:
        """Wait until the receivers at these brokers have all that was accepted."""
        wait_until(
            lambda: all(
                self.ledger.reached(SENDER, f"at{one}") >= self.ledger.accepted(SENDER)
                for one in healthy
            ),
            timeout,
            lambda: f"delivered; {self.describe()}",
        )

    def close_books(self, *, timeout: float = 60.0) -> list[Account]:
        """Wait for what is under way to every receiver; returns the account of each."""
        assert self.sender.nets.flush(scaled(timeout)), self.describe()
        everyone = range(len(self.brokers))
        wait_until(
            lambda: all(self._is_settled(one) for one in everyone),
            timeout,
            lambda: f"settled; {self.describe()}",
        )
        return [self.account(one) for one in everyone]

    def _is_settled(self, number: int) -> bool:
        account = self.account(number)
        return (
            self.ledger.reached(SENDER, f"at{number}") >= account.transmitted
            or account.delivered + self.dropped(number) >= account.transmitted
        )

    def describe(self) -> str:
        """The ledger, and where the sender stands."""
        lines = []
        for number, address in enumerate(self.addresses):
            one = self.publisher(number)
            drops = {reason.name: count for reason, count in one.drops.items() if count}
            lines.append(
                f"at{number} {address}: {self.account(number)}; gaps {self.gaps(number)}; "
                f"{one.state.value}, {one.condition.name}, waiting {one.waiting:,}, unconfirmed "
                f"{one.unconfirmed:,}, confirmed {one.confirmed:,}, dropped {drops}"
            )
        return "\n  ".join(["", *lines, *self.lines.texts[-12:]])


@contextmanager
def fleet(
    brokers: Sequence[LocalBroker],
    *,
    relayed: Collection[int] = (),
    limits: Limits = QUICK,
    work_s: float = 0.0,
    **extras: Any,
) -> Iterator[Fleet]:
    """A fleet that runs, with relays in front of some of its brokers."""
    with ExitStack() as stack:
        proxies = {
            number: stack.enter_context(FaultProxy(brokers[number].host, brokers[number].address))
            for number in relayed
        }
        made = Fleet(brokers, proxies, limits, work_s, **extras)
        yield stack.enter_context(made.running())
