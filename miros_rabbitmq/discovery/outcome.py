"""The outcome of a probe, the result of one, and the report of many.

Values only. A result can be turned into the fitting error of :mod:`miros_rabbitmq.exceptions`, with
a text of :mod:`miros_rabbitmq.faults`. Nothing here opens a socket or contains a password.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .. import faults
from ..closings import closed_by_broker
from ..exceptions import BrokerError, OutOfResources, SettingsError
from ..urls import DEFAULT_PORT, Address, parse_address, redact

MAX_DETAIL_LENGTH = 120
"""How many characters a detail has at most. It may quote the other side's text, of any length."""


class ProbeOutcome(enum.Enum):
    """Whether the broker at an address can be used, and why not."""

    CONNECTED = "connected"
    REFUSED = "connection refused"
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"
    UNKNOWN_HOST = "unknown host"
    NOT_RABBITMQ = "not RabbitMQ"
    TLS_FAILED = "TLS failed"
    ACCESS_REFUSED = "access refused"
    NO_SUCH_VHOST = "no such vhost"
    CLOSED = "closed by the broker"
    DUPLICATE = "the same broker"
    FAILED = "failed here"
    STARVED = "out of resources here"

    @property
    def transient(self) -> bool:
        """True if the same probe may succeed later although nobody changes a setting."""
        return self in _TRANSIENT

    @property
    def nothing_there(self) -> bool:
        """True if no program answered at the address."""
        return self in _NOTHING_THERE


_NOTHING_THERE = frozenset(
    {
        ProbeOutcome.REFUSED,
        ProbeOutcome.TIMED_OUT,
        ProbeOutcome.UNREACHABLE,
        ProbeOutcome.UNKNOWN_HOST,
        ProbeOutcome.STARVED,
    }
)

_TRANSIENT = frozenset(
    {
        ProbeOutcome.REFUSED,
        ProbeOutcome.TIMED_OUT,
        ProbeOutcome.UNREACHABLE,
        ProbeOutcome.UNKNOWN_HOST,
        ProbeOutcome.CLOSED,
        ProbeOutcome.FAILED,
        ProbeOutcome.STARVED,
    }
)


@dataclass(frozen=True)
class ProbeResult:
    """The result of probing one address.

    Attributes:
        address: the address, as it was given to the probe.
        outcome: whether the broker can be used, and why not.
        detail: what was seen, if possible in the words of the other side; printable and short.
        duration_s: how long the probe took, in seconds.
        user: the user whom the broker was asked to accept.
        vhost: the virtual host that the broker was asked to open.
        ip: the IPv4 or IPv6 address to which the host's name resolved; empty if it did not.
        fault: makes the error, if it is not the usual one of the outcome.
        short: what this process lacked, if the outcome is `ProbeOutcome.STARVED`.
    """

    address: Address
    outcome: ProbeOutcome
    detail: str
    duration_s: float
    user: str = ""
    vhost: str = "/"
    ip: str = ""
    fault: Callable[[Address], BrokerError] | None = field(default=None, repr=False, compare=False)
    short: OutOfResources | None = field(default=None, compare=False, repr=False)

    @property
    def connected(self) -> bool:
        """True if the broker accepts our user and password and opens the virtual host."""
        return self.outcome is ProbeOutcome.CONNECTED

    def error(self) -> BrokerError | None:
        """The error that fits this outcome; `None` if the broker works.

        The error's text says what happened, at which host, and what to do.
        """
        outcome, address, detail = self.outcome, self.address, self.detail or self.outcome.value
        if outcome in (ProbeOutcome.CONNECTED, ProbeOutcome.DUPLICATE):
            return None
        if self.short is not None:
            return faults.starved(address, self.short)
        if self.fault is not None:
            return self.fault(address)
        if outcome is ProbeOutcome.UNKNOWN_HOST:
            return faults.unknown_host(address, detail)
        if outcome is ProbeOutcome.REFUSED:
            return faults.nothing_listens(address)
        if outcome is ProbeOutcome.NOT_RABBITMQ:
            return faults.not_rabbitmq(address, detail)
        if outcome is ProbeOutcome.TLS_FAILED:
            return faults.tls_failed(address, detail)
        if outcome is ProbeOutcome.ACCESS_REFUSED:
            return faults.access_refused(address, self.user, self.vhost)
        if outcome is ProbeOutcome.NO_SUCH_VHOST:
            return closed_by_broker(address, 530, "vhost  not found", self.user, self.vhost)
        if outcome is ProbeOutcome.FAILED:
            return faults.failed_here(address, detail)
        if outcome is ProbeOutcome.CLOSED:
            return faults.connection_broken(address, "while it was opened")
        return faults.unreachable(address, detail)

    def raise_for_outcome(self) -> None:
        """Raise the error that fits this outcome; do nothing if the broker works.

        Raises:
            BrokerError: the one of its subclasses that fits.
        """
        error = self.error()
        if error is not None:
            raise error


@dataclass(frozen=True)
class ScoutReport:
    """The results of probing several candidates. ``str()`` makes a table of them.

    Attributes:
        rows: a result for each candidate, in the order in which they were given.
        duration_s: how long the probes took together, in seconds.
    """

    rows: tuple[ProbeResult, ...]
    duration_s: float = 0.0

    def __iter__(self) -> Iterator[ProbeResult]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, address: Address | str) -> ProbeResult:
        """The result for an address, which is an ``Address``, ``host:port`` or ``host``.

        Raises:
            KeyError: the address was not a candidate.
        """
        text = str(address) if isinstance(address, Address) else address
        try:
            # Read with the default port, a text without a port is the short form of an address.
            wanted = parse_address(text)
        except SettingsError:
            raise KeyError(redact(text) if isinstance(text, str) else type(text)) from None
        for row in self.rows:
            if row.address == wanted:
                return row
        raise KeyError(str(wanted))

    @property
    def connected(self) -> tuple[ProbeResult, ...]:
        """The results of the brokers that work."""
        return tuple(row for row in self.rows if row.connected)

    def counts(self) -> Counter[ProbeOutcome]:
        """How many results have which outcome."""
        return Counter(row.outcome for row in self.rows)

    def __str__(self) -> str:
        heads = ("broker", "outcome", "time", "detail")
        cells = [
            (str(row.address), row.outcome.value, f"{row.duration_s * 1000:.0f} ms", row.detail)
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(4)]
        lines = [heads, tuple("-" * width for width in widths), *cells]
        table = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip()
            for a, b, c, d in lines
        ]
        working = len(self.connected)
        table.append(f"{working} of {len(self.rows)} usable, in {self.duration_s:.1f} s")
        return "\n".join(table)


def without_duplicates(rows: list[ProbeResult]) -> list[ProbeResult]:
    """Mark each result for a broker that an earlier result has, under another name."""
    first: dict[tuple[str, int], Address] = {}
    marked = []
    for row in rows:
        seen = first.setdefault((row.ip, row.address.port), row.address) if row.ip else row.address
        if seen != row.address:
            detail = f"resolves to {row.ip}, as {seen} does"
            row = replace(row, outcome=ProbeOutcome.DUPLICATE, detail=detail)
        marked.append(row)
    return marked


def short(address: Address) -> str:
    """An address as text, without the port if that is 5672."""
    return address.host if address.port == DEFAULT_PORT else str(address)
