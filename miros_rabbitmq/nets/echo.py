"""Whether the own broker routes as the chart has bound its queue.

A chart whose own pattern matches its own routing key gets what it transmits, and skips it. If the
broker says all the same that no queue was there for it, the exchange is of another type than topic.
Who may declare the exchange learns that when declaring it (see `declaration`); this is for those
who may not.

The clock is handed in.
"""

from __future__ import annotations

from collections import deque

from ..logs import RelayedLogger
from ..problems import DeliveryProblem, ProblemKind, Report
from ..remedies import declare_exchange, delete_exchange, rabbitmqctl
from ..urls import Address

logger: RelayedLogger = RelayedLogger(__name__)


_LOOKS_BACK = 8


class Echo:
    """Says that the own broker returns what the own queue should get. For one thread.

    Args:
        name: the name of the chart.
        exchange: the exchange, of which only the type can be wrong.
        vhost: its virtual host.
        patience_s: for longer than this, a deleted exchange or binding is not missing: the chart
            declares and binds again.
        report: takes what was found.
    """

    def __init__(
        self, name: str, exchange: str, vhost: str, patience_s: float, report: Report
    ) -> None:
        self._name = name
        self._exchange = exchange
        self._vhost = vhost
        self._patience_s = patience_s
        self._report = report
        self._queue = ""
        self._returned = 0
        # How many events went into a queue, at the latest looks: see `audience`.
        self._heard: deque[int] = deque((0,), maxlen=_LOOKS_BACK)
        self._since_s: float | None = None
        self._is_said = False

    def look(
        self, now_s: float, address: Address, queue: str, confirmed: int, returned: int
    ) -> None:
        """Look at what the own broker has done. To be called about twice a second.

        Args:
            now_s: a time of a monotonic clock.
            address: the own broker's.
            queue: the chart's queue, bound and consumed from; empty while it is not.
            confirmed: how many events the broker has confirmed.
            returned: how many of them went into no queue. A message is returned before it is
                confirmed.
        """
        is_heard = confirmed - returned > max(self._heard)
        is_lost = returned > self._returned
        self._heard.append(confirmed - returned)
        self._returned = returned
        if is_heard or not queue or queue != self._queue:
            self._queue, self._since_s = queue, None
        elif is_lost and self._since_s is None:
            self._since_s = now_s
        elif is_lost and not self._is_said and now_s - (self._since_s or 0.0) >= self._patience_s:
            self._is_said = True
            self._tell(address)

    def _tell(self, address: Address) -> None:
        exchange, vhost = self._exchange, self._vhost
        shows = rabbitmqctl("list_exchanges", "name", "type", vhost=vhost)
        text = (
            f"{address} returns what {self._name} transmits, although the chart's own queue is "
            f"bound for it: the exchange {exchange!r} is not of the type topic ({shows} tells). On "
            f"the broker run as root: {delete_exchange(exchange, vhost)}; "
            f"{declare_exchange(exchange, vhost)}"
        )
        logger.warning("%s: %s", exchange, text)
        self._report(DeliveryProblem(ProblemKind.UNHEARD, self._name, text, exchange))
