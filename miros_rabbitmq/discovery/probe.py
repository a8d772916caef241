"""Probing hosts, one or many at once: does a RabbitMQ run there that accepts our login?

A probe resolves the host's name, makes a TCP connection, puts TLS on it if asked to, and holds the
dialogue of `handshake`. All probes of a round run in one thread of their own, with an event loop of
its own, which lasts as long as the round; so the caller may be in any thread, whether or not that
thread runs an event loop. `scout` decides which hosts are probed, and what the results mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from .. import faults
from ..exceptions import BrokerError, OutOfResources
from ..foreign import hidden, in_words
from ..resolve import resolve
from ..resources import file_limit, naming_shortage, shortage, start_thread
from ..urls import Address, AmqpUrl, check_tls
from .handshake import ProbeEnded, shake_hands
from .outcome import MAX_DETAIL_LENGTH, ProbeOutcome, ProbeResult
from .search import Login

logger: logging.Logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
"""For the TCP connection, and again for the TLS handshake. Hosts on a LAN accept a connection in
milliseconds; TCP itself would repeat its first packet only after a second."""

ANSWER_TIMEOUT_S = 1.5
"""For each answer of the broker. A busy Raspberry Pi takes a few hundred milliseconds."""

RESOLVE_TIMEOUT_S = 1.5
"""For the look-up of a name. A slower one goes on in its own thread, and nobody waits for it."""

PROBE_TIMEOUT_S = 2.7
"""For one whole probe, so that a round of probes takes less than three seconds, whatever the hosts
do."""

STOP_LOOK_S = 0.05
"""How often a round of probes looks whether it is to end early."""

PARALLELISM = 256
"""How many connections are made at once: enough for all hosts of a /24."""

_FEWEST = 4
"""However few descriptors the process may have, so many connections are made at once."""

_REFUSED = frozenset({errno.ECONNREFUSED, 10061})  # the second is Windows's WSAECONNREFUSED
_TIMED_OUT = frozenset({errno.ETIMEDOUT, 10060})
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, 10051, 10065})

_HUNG_UP = "it hung up right after the handshake"
"""In TLS 1.3 a client learns only after the handshake that it was refused."""

MayConnect = Callable[[Address, str], bool]
"""Tells whether a host may be connected to at an IP address. Called in the thread of the round."""


@dataclass(frozen=True)
class ProbeLimits:
    """How long a probe may take, and how many may run at once.

    Attributes:
        connect_timeout_s: seconds for the TCP connection, and again for the TLS handshake.
        answer_timeout_s: seconds for each answer of the broker.
        resolve_timeout_s: seconds for the look-up of the host's name.
        probe_timeout_s: seconds for the whole probe.
        parallelism: how many probes run at once at most.
    """

    connect_timeout_s: float = CONNECT_TIMEOUT_S
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    resolve_timeout_s: float = RESOLVE_TIMEOUT_S
    probe_timeout_s: float = PROBE_TIMEOUT_S
    parallelism: int = PARALLELISM


def probe_all(
    addresses: Sequence[Address],
    login: Login,
    *,
    tls: ssl.SSLContext | None = None,
    limits: ProbeLimits | None = None,
    stop: threading.Event | None = None,
    may_connect: MayConnect | None = None,
) -> list[ProbeResult]:
    """Probe all addresses at the same time, and return the results in the order of the addresses.

    Blocks until the slowest probe has ended, at most ``probe_timeout_s``; as many times longer as
    there are more addresses than ``parallelism``. May be called from any thread.

    Args:
        addresses: the addresses to probe.
        login: what the brokers are asked to accept.
        tls: the context for TLS to all of them; `None` for plain TCP.
        limits: how long a probe may take, and how many may run at once.
        stop: ends the round within a tenth of a second when it is set. Probes that had not ended
            have `ProbeOutcome.FAILED`.
        may_connect: tells, for each of the IP addresses to which a host resolves, whether it may be
            connected to; by default all may.

    Raises:
        OutOfResources: there is no thread for the round, or no file descriptor for its event loop.
            If descriptors run out later, those probes have `ProbeOutcome.STARVED`.
    """
    if not addresses:
        return []
    used = limits or ProbeLimits()
    results: list[ProbeResult] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            with contextlib.closing(_Loop()) as loop:
                round_ = _probe_all(addresses, login, tls, used, stop, may_connect)
                results.extend(loop.run_until_complete(round_))
        except Exception as error:  # noqa: BLE001 - the top of a thread: its starter raises it
            failures.append(error)

    # A thread of its own, since the caller's may already run an event loop. A daemon, so that a
    # caller who is interrupted does not have to wait: the probes end by themselves.
    thread = threading.Thread(target=run, name="miros-rabbitmq-probe", daemon=True)
    start_thread(thread)
    thread.join()
    if failures:
        with naming_shortage():
            raise failures[0]
    return results


def probe_one(
    url: AmqpUrl | str, *, tls: ssl.SSLContext | None = None, limits: ProbeLimits | None = None
) -> ProbeResult:
    """Probe the broker of one URL, and raise an error if it cannot be used.

    Blocks for ``limits.probe_timeout_s`` at most. May be called from any thread.

    Args:
        url: the AMQP URL, with user, password and virtual host.
        tls: the context for TLS; for an ``amqps`` URL, by default Python's own default context.
        limits: how long the probe may take.

    Returns:
        the result, if the broker can be used.

    Raises:
        BrokerError: it cannot be used. The error is of the subclass that fits, and its text says
            what to do.
        SettingsError: the URL is not an AMQP URL.
    """
    url = AmqpUrl(url)
    check_tls(tls)
    if tls is None and url.parts.tls:
        tls = ssl.create_default_context()
    (result,) = probe_all([url.address], login_of(url), tls=tls, limits=limits)
    result.raise_for_outcome()
    return result


def login_of(url: str) -> Login:
    """User, password and virtual host of an AMQP URL; what is missing has pika's defaults."""
    parts = AmqpUrl(url).parts
    return Login(parts.user, parts.password, parts.vhost)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that complains of nothing if it cannot be made for lack of descriptors."""

    def __del__(self) -> None:
        """Close nothing: what was never open would complain, and its parts close themselves."""


async def _probe_all(
    addresses: Sequence[Address],
    login: Login,
    tls: ssl.SSLContext | None,
    limits: ProbeLimits,
    stop: threading.Event | None,
    may_connect: MayConnect | None,
) -> list[ProbeResult]:
    # A probe's error becomes its result. What else asyncio catches belongs to no probe, or comes
    # after its end.
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: logger.debug("in a round of probes: %s", context)
    )
    turn = asyncio.Semaphore(max(1, min(limits.parallelism, _spare_files())))

    async def in_turn(address: Address) -> ProbeResult:
        async with turn:
            return await _probe(address, login, tls, limits, may_connect)

    tasks = [asyncio.ensure_future(in_turn(address)) for address in addresses]
    if stop is not None:
        # Another thread sets this event, so that a coroutine cannot wait for it and has to look.
        pending = set(tasks)
        while pending and not stop.is_set():
            _, pending = await asyncio.wait(pending, timeout=STOP_LOOK_S)
        for task in pending:
            task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        _stopped(address, login) if isinstance(one, BaseException) else one
        for address, one in zip(addresses, done, strict=True)
    ]


def _stopped(address: Address, login: Login) -> ProbeResult:
    return ProbeResult(
        address, ProbeOutcome.FAILED, "the probe was stopped", 0.0, login.user, login.vhost
    )


async def _probe(
    address: Address,
    login: Login,
    tls: ssl.SSLContext | None,
    limits: ProbeLimits,
    may_connect: MayConnect | None,
) -> ProbeResult:
    """Probe one address. However the probe ends, there is a result."""
    started = time.monotonic()
    ip: list[str] = []  # filled by the probe, so that it is known even if the probe ends early
    fault: Callable[[Address], BrokerError] | None = None
    short: OutOfResources | None = None
    try:
        detail = await asyncio.wait_for(
            _connect_and_ask(address, login, tls, limits, ip, may_connect), limits.probe_timeout_s
        )
        outcome = ProbeOutcome.CONNECTED
    except ProbeEnded as end:
        outcome, detail, fault = end.outcome, end.detail, end.fault
    except (asyncio.TimeoutError, TimeoutError):
        outcome = ProbeOutcome.TIMED_OUT
        detail = "it accepts connections but does not answer" if ip else "the probe took too long"
        fault = faults.silent if ip else None
    except ssl.SSLError as error:
        outcome, detail = ProbeOutcome.TLS_FAILED, _reason(error)
    except asyncio.IncompleteReadError as error:
        outcome = ProbeOutcome.NOT_RABBITMQ
        detail = "it closed the connection in the middle of a frame"
        if not error.partial:
            detail = "it hung up without a word"
            if tls is not None:
                outcome, detail = ProbeOutcome.TLS_FAILED, _HUNG_UP
    except ConnectionError as error:
        outcome, detail = ProbeOutcome.CLOSED, _reason(error)
        if tls is not None:
            # What it said is lost if it closes before it has read our first bytes.
            outcome, detail = ProbeOutcome.TLS_FAILED, _HUNG_UP
    except Exception as error:  # one candidate must not end the round for the others
        short = shortage(error)
        if short is not None:
            outcome, detail = ProbeOutcome.STARVED, f"no {short.what} left"
        elif isinstance(error, OSError):
            outcome, detail = ProbeOutcome.CLOSED, _reason(error)
        else:
            logger.exception("probing %s failed", address)
            outcome, detail = ProbeOutcome.FAILED, type(error).__name__
    return ProbeResult(
        address=address,
        outcome=outcome,
        detail=in_words(detail, MAX_DETAIL_LENGTH, hidden(login.password, login.user)),
        duration_s=time.monotonic() - started,
        user=login.user,
        vhost=login.vhost,
        ip=ip[0] if ip else "",
        fault=fault,
        short=short,
    )


async def _connect_and_ask(
    address: Address,
    login: Login,
    tls: ssl.SSLContext | None,
    limits: ProbeLimits,
    ip: list[str],
    may_connect: MayConnect | None,
) -> str:
    connection = await _connect(address, limits, ip, may_connect)
    try:
        reader, writer = await _open_streams(connection, address, tls, limits.connect_timeout_s)
    except BaseException:
        connection.close()
        raise
    try:
        return await shake_hands(reader, writer, login, limits.answer_timeout_s)
    finally:
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 0.2)  # TLS may wait for the other side
        writer.transport.abort()


async def _connect(
    address: Address, limits: ProbeLimits, ip: list[str], may_connect: MayConnect | None
) -> socket.socket:
    """Make the TCP connection, to the first IP address of the host that accepts it."""
    try:
        targets = await resolve(address, limits.resolve_timeout_s)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise ProbeEnded(
            ProbeOutcome.UNKNOWN_HOST, "no name server answered in time", _no_name_server
        ) from error
    except OutOfResources:
        raise
    except OSError as error:
        fault = _no_name_server if error.errno == socket.EAI_AGAIN else None
        raise ProbeEnded(ProbeOutcome.UNKNOWN_HOST, _reason(error), fault) from error
    allowed = [one for one in targets if may_connect is None or may_connect(address, one.ip)]
    if not allowed:
        detail = f"it is at {targets[0].ip}, where no broker that others announce is looked for"
        raise ProbeEnded(ProbeOutcome.UNKNOWN_HOST, detail)
    targets = allowed
    ip.append(targets[0].ip)
    end: ProbeEnded | None = None
    for target in targets:
        try:
            with naming_shortage():
                connection = socket.socket(target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OutOfResources:
            raise
        except OSError as error:
            end = ProbeEnded(ProbeOutcome.FAILED, _reason(error))
            continue
        try:
            connection.setblocking(False)
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(connection, target.socket_address),
                limits.connect_timeout_s,
            )
        except (asyncio.TimeoutError, TimeoutError):
            end = ProbeEnded(ProbeOutcome.TIMED_OUT, "no answer to the connection attempt")
        except OSError as error:
            end = ProbeEnded(_outcome_of(error), _reason(error))
        except BaseException:
            connection.close()
            raise
        else:
            ip[:] = [target.ip]
            return connection
        connection.close()
    raise end or ProbeEnded(ProbeOutcome.UNKNOWN_HOST, "it resolves to nothing")


async def _open_streams(
    connection: socket.socket, address: Address, tls: ssl.SSLContext | None, timeout_s: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if tls is None:
        return await asyncio.open_connection(sock=connection)
    try:
        return await asyncio.wait_for(
            asyncio.open_connection(sock=connection, ssl=tls, server_hostname=address.tls_name),
            timeout_s,
        )
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise ProbeEnded(ProbeOutcome.TLS_FAILED, "no TLS handshake in time") from error
    except ssl.SSLCertVerificationError as error:
        detail = f"its certificate does not pass: {error.verify_message}"
        raise ProbeEnded(ProbeOutcome.TLS_FAILED, detail) from error
    except OSError as error:  # ssl.SSLError is one
        if shortage(error) is not None:
            raise
        raise ProbeEnded(ProbeOutcome.TLS_FAILED, _reason(error)) from error


_no_name_server = partial(faults.unknown_host, is_unanswered=True)


def _outcome_of(error: OSError) -> ProbeOutcome:
    if error.errno in _REFUSED:
        return ProbeOutcome.REFUSED
    if error.errno in _TIMED_OUT:
        return ProbeOutcome.TIMED_OUT
    if error.errno in _UNREACHABLE:
        return ProbeOutcome.UNREACHABLE
    return ProbeOutcome.FAILED


def _reason(error: Exception) -> str:
    """The reason of an error, in the words of the operating system or the library."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _spare_files() -> int:
    """How many connections a round may open: an eighth of the file descriptors of the process."""
    files = file_limit()
    return PARALLELISM if files is None else max(_FEWEST, files // 8)
