"""Which brokers this node publishes to: looked for at the start, and again and again.

Its own broker is a member from the start. Where the user names the others, each is a member
unless it has answered that it cannot be one (no RabbitMQ, wrong password, no such vhost): one that
is down is expected to come. Of the hosts found on the LAN, those are members that take our
credentials. A host that is no member is asked again in the next round.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .lan import LocalAreaNetwork
from .outcome import ProbeResult
from .scout import RabbitScout
from .settings import Settings
from .urls import AmqpUrl

logger = logging.getLogger(__name__)


class Membership:
    """Looks for brokers in a thread of its own.

    Args:
        settings: the node's.
        name: the chart; a part of the thread's name.
        on_broker: called with the URL of each new member; in the membership's thread.
    """

    def __init__(self, settings: Settings, name: str, on_broker: Callable[[AmqpUrl], None]) -> None:
        self._settings = settings
        self._name = f"miros discovery of {name}"
        self._on_broker = on_broker
        self.lan = LocalAreaNetwork(
            settings.addresses,
            interface=settings.interface,
            rabbit_host=settings.rabbit_host,
        )
        self.scout = RabbitScout(
            settings.rabbit_user,
            settings.rabbit_password,
            addresses=settings.addresses,
            rabbit_host=settings.rabbit_host,
            rabbit_port=settings.rabbit_port,
            rabbit_vhost=settings.rabbit_vhost,
            lan=self.lan,
            tls=settings.tls,
        )
        self._members: set[AmqpUrl] = set()
        self._reported: dict[str, str] = {}
        self._first_round = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start looking."""
        self._members = {self.scout.this.url}
        self._first_round.clear()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a round under way ends by itself within its own limit."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def wait_for_first_round(self, timeout: float) -> bool:
        """Wait until every candidate was asked once."""
        return self._first_round.wait(timeout)

    def _run(self) -> None:
        interval_s = self._settings.rescan_interval
        again = False
        while True:
            try:
                self._look(again)
            except Exception:
                logger.exception("%s: the round failed", self._name)
            self._first_round.set()
            again = True
            if self._stop.wait(interval_s or None):
                return

    def _look(self, again: bool) -> None:
        if self._settings.addresses is None:
            self.lan.sweep(self._stop)
        report = self.scout.probe() if again else self.scout.report
        for row in report:
            url = self._settings.url(row.address)
            if url in self._members or self._stop.is_set():
                continue
            if self._is_member(row):
                self._members.add(url)
                self._on_broker(url)
            self._report(row)

    def _is_member(self, row: ProbeResult) -> bool:
        if row.connected:
            return True
        return self._settings.addresses is not None and row.outcome.transient

    def _report(self, row: ProbeResult) -> None:
        """Say of a named host why it cannot be used; once, until the reason changes."""
        key, outcome = str(row.address), row.outcome.value
        if self._reported.get(key) == outcome:
            return
        self._reported[key] = outcome
        error = row.error()
        if error is not None and self._settings.addresses is not None:
            logger.warning("%s: %s", self._name, error)
        else:
            logger.info("%s: %s: %s", self._name, key, outcome)
