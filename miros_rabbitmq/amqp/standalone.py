"""The life of a publisher or consumer that is used on its own, without a chart.

It has a reactor of its own, and so a thread; and a worker for each of the user's callbacks.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable

from ..exceptions import BrokerError, MirosApiException
from ..interruption import do_apart, has_interrupted, refuse
from ..limits import Limits
from ..logs import RelayedLogger, write_all
from ..process import Stage, end_with_program, stay
from ..tls import tls_from_environment
from ..urls import Address, AmqpUrl, check_tls
from ..wire.codec import Codec
from ..wording import a_value_of
from ..worker import Worker
from .io_choice import check_io_choice
from .link import Link
from .link_state import SessionState
from .parameters import Endpoint
from .reactor import Reactor

logger: RelayedLogger = RelayedLogger(__name__)

_MOST_CHANGES = 1_000
"""The most changes of the state that wait for a slow callback; beyond it, the oldest go."""


_LOOK_AGAIN_S = 0.01
"""How often a handler of a signal that waits for a connection looks for it."""

_END_GRACE_S = 2.0
"""How much longer than ``stop_timeout_s`` a stop waits by default: for a connection that is cut,
and for a callback that is running."""

_LAST_LINES_S = 0.5
"""How long a stop waits until its log lines are written."""


class OwnThread:
    """Starts and stops a link, its reactor and the workers of its callbacks.

    Every method may be called from any thread.

    Args:
        name: the name of the thread.
        on_change: the user's callback for changes of the state; called in a worker's thread.
    """

    def __init__(self, name: str, on_change: Callable[[], object] | None) -> None:
        self.reactor: Reactor = Reactor(name)
        self._name = name
        self._on_change = on_change
        self._workers: list[Worker[object]] = []
        self._link: Link | None = None
        self._changes: Worker[object] | None = None
        if on_change is not None:
            self._changes = Worker(
                f"callbacks of {name}", self._tell_changes, max_items=_MOST_CHANGES
            )

    @property
    def link(self) -> Link:
        """The link."""
        assert self._link is not None
        return self._link

    def own(self, link: Link, stop_callbacks: Callable[[float], object] | None = None) -> None:
        """Take the link, which uses the reactor, and the function that ends other callbacks."""
        self._link = link
        self._stop_callbacks = stop_callbacks

    def note_change(self) -> None:
        """Tell the user, in the worker, that the state has changed; returns at once."""
        if self._changes is not None:
            self._changes.put(None)

    def _tell_changes(self, changes: deque[object], _dropped: int) -> None:
        assert self._on_change is not None
        while changes:
            changes.popleft()
            try:
                self._on_change()
            except BaseException:  # even SystemExit must not end this thread
                logger.exception("%s: the callback for changes of the state raised", self._name)

    def start(self) -> None:
        """Begin to connect; see `Link.start`."""
        self.link.start()
        end_with_program(self, Stage.CONNECTIONS)

    def stop(self, timeout: float | None = None) -> None:
        """Ask the link to end; returns at once."""
        self.link.stop(timeout)

    def stop_and_wait(self, timeout: float | None = None) -> bool:
        """Ask the link to end, and wait until link, thread and callbacks have ended.

        A callback that does not return in time is left behind, which is logged.

        Args:
            timeout: seconds for all of it; default a little above ``limits.stop_timeout_s``, at
                which the connection is cut.

        Returns:
            whether link and thread have ended.
        """
        if timeout is None:
            timeout = self.link.endpoint.limits.stop_timeout_s + _END_GRACE_S
        deadline_s = time.monotonic() + timeout
        self.stop()
        if not self.link.wait_for_end(timeout):
            return False
        # Not before: the end of the program waits for another thread that does this.
        stay(self, Stage.CONNECTIONS)
        has_ended = self.reactor.wait_for_end(max(0.0, deadline_s - time.monotonic()))
        for stop in (self._changes.stop if self._changes else None, self._stop_callbacks):
            if stop is not None:
                stop(max(0.0, deadline_s - time.monotonic()))
        write_all(_LAST_LINES_S)
        return has_ended

    def ask_to_end(self) -> None:
        """Close the connection, because the program ends."""
        self.link.stop()

    def end(self, began_s: float) -> None:
        """Wait until the connection is closed, or until the time limit, before the program ends."""
        limit_s = self.link.endpoint.limits.stop_timeout_s
        self.link.wait_for_end(max(0.0, began_s + limit_s - time.monotonic()))


class Standalone:
    """The life of a public publisher or consumer: what all of them have in common.

    Args:
        life: starts and stops it.
    """

    def __init__(self, life: OwnThread) -> None:
        self._life = life

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address} {self.state.value}>"

    @property
    def url(self) -> AmqpUrl:
        """The broker's URL."""
        return self._life.link.endpoint.url

    @property
    def address(self) -> Address:
        """The broker's host and port."""
        return self._life.link.address

    @property
    def limits(self) -> Limits:
        """Times and sizes."""
        return self._life.link.endpoint.limits

    @property
    def state(self) -> SessionState:
        """Where the connection stands."""
        return self._life.link.state

    @property
    def is_connected(self) -> bool:
        """Whether it has a channel that is set up."""
        return self._life.link.is_connected

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop and not started again."""
        return self._life.link.is_stopping

    @property
    def fault(self) -> BrokerError | None:
        """Why it is not connected; `None` while it is, or before the first attempt has ended."""
        return self._life.link.fault

    def start_thread(self) -> None:
        """Start the thread, which connects; does nothing where it runs already.

        After a `stop`, the end is waited for: a little longer than ``limits.stop_timeout_s``.

        Raises:
            MirosApiException: it has not ended in this time, or the handler of a signal has called
                this in the middle of other work of this package.
            OutOfResources: no thread can be started.
        """
        if has_interrupted():
            refuse("start_thread")
        self._life.start()

    def stop(self, timeout: float | None = None) -> None:
        """Ask the thread to close the connection and end; returns at once.

        Args:
            timeout: seconds after which the connection is cut; default ``limits.stop_timeout_s``.
        """
        if has_interrupted():
            do_apart(lambda: self._life.stop(timeout), f"the stop of {self!r}")
        else:
            self._life.stop(timeout)

    def stop_thread(self, timeout: float | None = None) -> bool:
        """`stop`, and wait until the thread has ended and callbacks have returned.

        Args:
            timeout: seconds; default a little above ``limits.stop_timeout_s``, at which the
                connection is cut.

        Returns:
            whether the thread has ended. In the handler of a signal that has come in the middle of
            other work of this package: False at once, and another thread waits.
        """
        if has_interrupted():
            do_apart(lambda: self._life.stop_and_wait(timeout), f"the stop of {self!r}")
            return False
        return self._life.stop_and_wait(timeout)

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait until the broker is connected or refuses us, or until a stop.

        Args:
            timeout: the longest wait, in seconds.

        Returns:
            whether it is connected.
        """
        link = self._life.link
        if has_interrupted():
            # Not on a condition, as it would let go of the lock for what was interrupted.
            deadline_s = time.monotonic() + timeout
            while not link.is_settled and time.monotonic() < deadline_s:
                time.sleep(_LOOK_AGAIN_S)
            return link.is_connected
        return link.wait_until_ready(timeout)


def endpoint_of(amqp_url: str, limits: Limits | None, tls: ssl.SSLContext | None) -> Endpoint:
    """The endpoint that the arguments of a public publisher or consumer describe.

    Raises:
        SettingsError: one of them has a value that cannot work, or the environment has.
    """
    check_io_choice()
    check_tls(tls)
    url = AmqpUrl(amqp_url)
    if tls is None and url.parts.tls:
        tls = tls_from_environment()
    return Endpoint(url, Limits() if limits is None else limits, tls)


def check_codec(codec: object) -> None:
    """Check an argument of a public publisher or consumer.

    Raises:
        MirosApiException: it is not a codec.
    """
    if not isinstance(codec, Codec):
        raise MirosApiException(
            f"codec is {a_value_of(codec)}: make a miros_rabbitmq.Codec of the key, as in "
            "codec=Codec(key)"
        )
