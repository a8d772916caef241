"""Turns the names of hosts into IP addresses, without holding anything up.

The operating system's look-up blocks, cannot be cancelled, and takes tens of seconds when no name
server answers. So each name is looked up in a daemon thread, which a caller may leave behind and
which holds up neither an event loop nor the end of the program. A name that is being looked up is
not looked up a second time: callers that ask meanwhile get the same answer. A dead name server
therefore costs one thread for each name, however often callers try.

`look_up` needs no event loop and calls back; `resolve` is the same for asyncio. Answers are not
kept: a host may have moved by the next time somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import encodings.idna  # noqa: F401 - getaddrinfo imports it, which takes a file descriptor
import errno
import logging
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from .exceptions import OutOfResources
from .host_names import ip_of
from .process import Stage, disown_in_child
from .resources import require_descriptors, start_thread
from .urls import Address

logger: logging.Logger = logging.getLogger(__name__)


_MOST_ADDRESSES = 8
"""The most addresses of one name that are used. Whoever poses as a name server can send thousands,
of whatever hosts, and each attempt would try them all."""


class Target(NamedTuple):
    """An IP address and a port, to which a socket of the family can be connected."""

    family: socket.AddressFamily
    ip: str
    port: int
    scope: int = 0
    """The number of the interface behind which a link-local IPv6 address is; 0 for none."""

    @property
    def socket_address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address as sockets take it."""
        if self.family == socket.AF_INET6:
            return self.ip, self.port, 0, self.scope
        return self.ip, self.port


OnDone = Callable[[list[Target] | OSError], object]
"""Takes the addresses of a host, at least one, in the order in which the system prefers them; or
the reason why there are none."""

Found = list[tuple[socket.AddressFamily, str, int]] | OSError
"""What a look-up has found: family, IP address and scope; or the reason why there are none."""


class LookUp:
    """One caller's question for the addresses of one host, as `look_up` returns it.

    Args:
        port: the port that goes into each `Target`.
        on_done: what to call with the answer.
        withdraw: called when the caller no longer wants to know.
    """

    def __init__(self, port: int, on_done: OnDone, withdraw: Callable[[LookUp], object]) -> None:
        self._port = port
        self._withdraw = withdraw
        # The one thread that takes the callback out of the list may call it, or drop it.
        self._on_done = [on_done]

    def cancel(self) -> bool:
        """Make sure that `on_done` is not called any more. From any thread; does not wait.

        Returns:
            True if it was not called and never will be; False if it was called before, or is being
            called by another thread at this moment.
        """
        self._withdraw(self)
        return self._take() is not None

    def answer(self, found: Found) -> None:
        """Call `on_done`, unless it was called before or the caller has cancelled."""
        on_done = self._take()
        if on_done is None:
            return
        try:
            if isinstance(found, OSError):
                # A copy for each caller, since raising an exception changes it.
                on_done(copy.copy(found))
            else:
                on_done([Target(family, ip, self._port, scope) for family, ip, scope in found])
        except Exception:
            # The other callers who share the look-up still have to be answered.
            logger.exception("a callback for the addresses of a host failed")

    def _take(self) -> OnDone | None:
        with contextlib.suppress(IndexError):
            return self._on_done.pop()
        return None


class Resolver:
    """Looks names up, each in a thread of its own. There is one for the process: `look_up`."""

    def __init__(self) -> None:
        # The callers that wait, by the name that is being looked up.
        self._questions: dict[str, list[LookUp]] = {}
        # Guards the questions, and is never held during a look-up or a callback. Reentrant, since
        # a signal handler may ask in the middle of another question.
        self._lock = threading.RLock()
        disown_in_child(self, Stage.WORKERS)

    def disown(self) -> None:
        """Forget the parent's questions, in a forked child: no thread is there to answer them."""
        self._questions = {}
        self._lock = threading.RLock()

    def look_up(self, address: Address, on_done: OnDone) -> LookUp:
        """See the function `look_up`."""
        host = address.host
        question = LookUp(address.port, on_done, lambda one: self._withdraw(host, one))
        ip = ip_of(host)
        if ip is not None:
            question.answer(_literal(ip))
            return question
        with self._lock:
            is_first = host not in self._questions
            self._questions.setdefault(host, []).append(question)
        if is_first:
            self._start(host)
        return question

    @property
    def under_way(self) -> int:
        """How many names are being looked up."""
        return len(self._questions)

    def _start(self, host: str) -> None:
        try:
            start_thread(
                threading.Thread(
                    target=self._run,
                    args=(host,),
                    name=f"miros-rabbitmq-resolve-{host}",
                    daemon=True,
                )
            )
        except OutOfResources as error:
            self._answer(host, error)

    def _run(self, host: str) -> None:
        try:
            self._answer(host, _ask_system(host))
        except OSError as error:
            self._answer(host, _true_reason(error))
        except UnicodeError as error:  # such as a label of more than 63 characters
            self._answer(host, socket.gaierror(socket.EAI_NONAME, f"no host name: {error}"))
        except Exception as error:
            logger.exception("looking up %r failed", host)
            self._answer(host, OSError(errno.EIO, f"{type(error).__name__}: {error}"))

    def _answer(self, host: str, found: Found) -> None:
        with self._lock:
            # From here on, a caller that asks for this name starts another look-up.
            questions = self._questions.pop(host, [])
        for question in questions:
            question.answer(found)

    def _withdraw(self, host: str, question: LookUp) -> None:
        with self._lock, contextlib.suppress(ValueError):  # answered meanwhile
            self._questions.get(host, []).remove(question)


def _literal(ip: IPv4Address | IPv6Address) -> Found:
    """What there is to find for an IP address."""
    if isinstance(ip, IPv4Address):
        return [(socket.AF_INET, str(ip), 0)]
    text, _, zone = str(ip).partition("%")
    try:
        scope = socket.if_nametoindex(zone) if zone else 0
    except OSError:
        return OSError(errno.ENODEV, f"there is no interface {zone}")
    return [(socket.AF_INET6, text, scope)]


def _true_reason(error: OSError) -> OSError:
    """The reason why a name is not found: there may be no descriptor to ask anybody with."""
    try:
        require_descriptors(1)
    except OSError as short:
        return short
    return error


def _ask_system(host: str) -> list[tuple[socket.AddressFamily, str, int]]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
    return [
        (family, str(address[0]), int(address[3]) if len(address) == 4 else 0)
        for family, _, _, _, address in found[:_MOST_ADDRESSES]
    ]


_resolver = Resolver()


def look_up(address: Address, on_done: OnDone) -> LookUp:
    """Find the IP addresses of a host, and call back with them. From any thread; does not wait.

    Callers who ask for a name that is being looked up share that look-up, whatever their ports.
    There is no time-out: a caller who has waited for long enough cancels.

    Args:
        address: the host, and the port for the targets.
        on_done: called once, with the targets or with the error, unless it is cancelled before.
            It is called in the look-up's daemon thread; for an IP address, or if no thread can be
            started, in the thread that calls `look_up`, before `look_up` returns. It must not
            block, because other callers may wait for the same thread. What it raises is logged.

    Returns:
        the question, which can be cancelled. A forked child never gets an answer to a question that
        its parent has asked.
    """
    return _resolver.look_up(address, on_done)


def look_ups_under_way() -> int:
    """How many names are being looked up, each in a thread. May be called from any thread.

    A question that was cancelled counts until the system has answered.
    """
    return _resolver.under_way


async def resolve(address: Address, timeout_s: float) -> list[Target]:
    """Find the IP addresses of a host, in the order in which the system prefers them.

    Args:
        address: the host, and the port for the targets.
        timeout_s: how long to wait, in seconds.

    Raises:
        OSError: the name is unknown, or cannot be looked up now.
        asyncio.TimeoutError: there was no answer in time.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Target]] = loop.create_future()

    def settle(found: list[Target] | OSError) -> None:
        if answer.done():  # the time was up, or the caller was cancelled
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def on_done(found: list[Target] | OSError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found)

    question = look_up(address, on_done)
    try:
        return await asyncio.wait_for(answer, timeout_s)
    finally:
        question.cancel()
