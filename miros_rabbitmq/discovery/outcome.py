"""What came of probing a broker: the outcomes, one result, and a report of many.

Values only. A result knows which error of :mod:`miros_rabbitmq.exceptions` it amounts to (worded
in :mod:`miros_rabbitmq.faults`); nothing here opens a socket, and nothing here ever has a password.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .. import faults
from ..exceptions import BrokerError
from ..urls import DEFAULT_PORT, Address

MAX_DETAIL_LENGTH = 120
"""Characters of a detail. Part of it is the other side's text, which may be of any length."""


class ProbeOutcome(enum.Enum):
    """Why a broker at an address can be used, or why not."""

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

    @property
    def transient(self) -> bool:
        """True when the same probe may well succeed later, with nobody changing a setting."""
        return self in _TRANSIENT

    @property
    def nothing_there(self) -> bool:
        """True when no program answered at the address."""
        return self in _NOTHING_THERE


_NOTHING_THERE = frozenset(
    {
        ProbeOutcome.REFUSED,
        ProbeOutcome.TIMED_OUT,
        ProbeOutcome.UNREACHABLE,
        ProbeOutcome.UNKNOWN_HOST,
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
    }
)


@dataclass(frozen=True)
class ProbeResult:
    """What came of probing one address.

    Attributes:
        address: the broker's, as it was asked for.
        outcome: what came of it.
        detail: what was seen, in the other side's words where it gave any; printable, short.
        duration_s: how long the probe took.
        user: whom the broker was asked to accept.
        vhost: the virtual host it was asked to open.
        ip: the IPv4 or IPv6 address it resolved to; empty when it did not.
    """

    address: Address
    outcome: ProbeOutcome
    detail: str
    duration_s: float
    user: str = ""
    vhost: str = "/"
    ip: str = ""

    @property
    def connected(self) -> bool:
        """True when the broker takes our credentials and opens the virtual host."""
        return self.outcome is ProbeOutcome.CONNECTED

    def error(self) -> BrokerError | None:
        """Return the error that this outcome amounts to; None when the broker works.

        Its text says what happened, to which host, and what to do.
        """
        outcome, address, detail = self.outcome, self.address, self.detail or self.outcome.value
        if outcome in (ProbeOutcome.CONNECTED, ProbeOutcome.DUPLICATE):
            return None
        if outcome is ProbeOutcome.UNKNOWN_HOST:
            return faults.unknown_host(address, detail)
        if outcome is ProbeOutcome.REFUSED:
            return faults.nothing_listens(address)
        if outcome is ProbeOutcome.NOT_RABBITMQ:
            return faults.not_rabbitmq(address, detail)
        if outcome is ProbeOutcome.TLS_FAILED:
            return faults.tls_failed(address, detail)
        if outcome is ProbeOutcome.ACCESS_REFUSED:
            return faults.access_refused(address, self.user)
        if outcome is ProbeOutcome.NO_SUCH_VHOST:
            return faults.vhost_not_found(address, self.vhost, self.user)
        return faults.no_answer(address, detail)

    def raise_for_outcome(self) -> None:
        """Raise `error` if there is one."""
        error = self.error()
        if error is not None:
            raise error


@dataclass(frozen=True)
class ScoutReport:
    """One row for each candidate, in the order of asking; ``str()`` makes a table of it.

    Attributes:
        rows: the results.
        duration_s: how long the probes took together.
    """

    rows: tuple[ProbeResult, ...]
    duration_s: float = 0.0

    def __iter__(self) -> Iterator[ProbeResult]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, address: Address | str) -> ProbeResult:
        """Return the row of an address, given as ``Address``, ``host:port``, or ``host``.

        Raises:
            KeyError: it was not a candidate.
        """
        for row in self.rows:
            if address in (row.address, str(row.address), short(row.address)):
                return row
        raise KeyError(str(address))

    @property
    def connected(self) -> tuple[ProbeResult, ...]:
        """The rows of the brokers that work."""
        return tuple(row for row in self.rows if row.connected)

    def counts(self) -> Counter[ProbeOutcome]:
        """How many rows have which outcome."""
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
    """Mark the rows that turned out to be the broker of an earlier row, under another name."""
    first: dict[tuple[str, int], Address] = {}
    marked = []
    for row in rows:
        seen = first.setdefault((row.ip, row.address.port), row.address) if row.ip else row.address
        if seen != row.address:
            row = ProbeResult(
                row.address,
                ProbeOutcome.DUPLICATE,
                f"resolves to {row.ip}, as {seen} does",
                row.duration_s,
                row.user,
                row.vhost,
                row.ip,
            )
        marked.append(row)
    return marked


def short(address: Address) -> str:
    """Write an address without its port where that is AMQP's own."""
    return address.host if address.port == DEFAULT_PORT else str(address)


def printable(text: str, secret: str = "") -> str:
    """Make a text of unknown origin fit for a table or a log: one line, short, and no secret."""
    if secret:
        text = text.replace(secret, "***")
    text = "".join(mark if mark.isprintable() else " " for mark in text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_DETAIL_LENGTH else text[: MAX_DETAIL_LENGTH - 3] + "..."
