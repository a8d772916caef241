"""Asking one host, or many at once, whether a RabbitMQ there takes our credentials and vhost.

A probe is one TCP connection: the name is resolved anew, the connection made, TLS put on it where
asked for, and the dialogue held of `handshake`. All probes of a round run in
one short-lived thread of their own with a private event loop, so that a caller may be in any
thread, with or without an event loop. Which hosts are asked, and what is made of the answers, is
the business of `scout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..resolve import resolve
from ..urls import Address, AmqpUrl
from .handshake import ProbeEnded, shake_hands
from .outcome import ProbeOutcome, ProbeResult, printable
from .search import Login

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
"""For the TCP connection, and again for TLS on it. TCP's second attempt would come after a second;
hosts on a LAN accept within milliseconds."""

ANSWER_TIMEOUT_S = 1.5
"""For each answer of the broker. A loaded Raspberry Pi needs a few hundred milliseconds."""

RESOLVE_TIMEOUT_S = 1.5
"""For a name to resolve. A lookup that takes longer goes on in its own thread, unheard."""

PROBE_TIMEOUT_S = 2.7
"""For one probe as a whole, so that a round in one go takes less than three seconds whatever
the hosts do."""

STOP_LOOK_S = 0.05
"""How often a round of probes looks whether it is to end."""

PARALLELISM = 256
"""Connections at once: a /24 in one go."""

_REFUSED = frozenset({errno.ECONNREFUSED, 10061})  # the second is Windows's WSAECONNREFUSED
_TIMED_OUT = frozenset({errno.ETIMEDOUT, 10060})
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, 10051, 10065})


@dataclass(frozen=True)
class ProbeLimits:
    """How long a probe may take, in seconds, and how many may run at once."""

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
) -> list[ProbeResult]:
    """Probe every address, all at the same time, and return the results in the same order.

    Blocks for as long as the slowest probe, which is ``probe_timeout_s`` at most, and for more of
    these only where there are more addresses than ``parallelism``. May be called from any thread.
    When ``stop`` is set meanwhile, it ends within a tenth of a second, and those that were not
    done have `ProbeOutcome.FAILED`.
    """
    if not addresses:
        return []
    used = limits or ProbeLimits()
    results: list[ProbeResult] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            results.extend(asyncio.run(_probe_all(addresses, login, tls, used, stop)))
        except Exception as error:  # noqa: BLE001 - the top of a thread: its starter raises it
            failures.append(error)

    # A thread of its own, since the caller's may already run an event loop. A daemon, so that an
    # interrupted caller can leave: the probes end by themselves.
    thread = threading.Thread(target=run, name="miros-rabbitmq-probe", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results


def probe_one(
    url: AmqpUrl | str, *, tls: ssl.SSLContext | None = None, limits: ProbeLimits | None = None
) -> ProbeResult:
    """Probe the broker of one URL: return if it can be used, raise if it cannot.

    Blocks for ``limits.probe_timeout_s`` at most. May be called from any thread.

    Args:
        url: the AMQP URL, with user, password and virtual host.
        tls: the context for an ``amqps`` URL; Python's default one where none is given.
        limits: the times it may take.

    Raises:
        BrokerError: the one of its kinds that fits; its text says what to do.
    """
    url = AmqpUrl(url)
    if not url.startswith("amqps:"):
        tls = None
    elif tls is None:
        tls = ssl.create_default_context()
    (result,) = probe_all([url.address], login_of(url), tls=tls, limits=limits)
    result.raise_for_outcome()
    return result


def login_of(url: str) -> Login:
    """Take user, password and virtual host out of an AMQP URL, with pika's defaults."""
    parts = urlsplit(url)
    return Login(
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        unquote(parts.path[1:].partition("/")[0]) or "/",
    )


async def _probe_all(
    addresses: Sequence[Address],
    login: Login,
    tls: ssl.SSLContext | None,
    limits: ProbeLimits,
    stop: threading.Event | None,
) -> list[ProbeResult]:
    turn = asyncio.Semaphore(max(1, min(limits.parallelism, _spare_files())))

    async def in_turn(address: Address) -> ProbeResult:
        async with turn:
            return await _probe(address, login, tls, limits)

    tasks = [asyncio.ensure_future(in_turn(address)) for address in addresses]
    if stop is not None:
        # Other threads set it, so that it has to be looked at.
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
    address: Address, login: Login, tls: ssl.SSLContext | None, limits: ProbeLimits
) -> ProbeResult:
    """Probe one address; every end that it can have becomes a result."""
    started = time.monotonic()
    ip: list[str] = []  # filled on the way: known even when the probe ends early
    try:
        detail = await asyncio.wait_for(
            _connect_and_ask(address, login, tls, limits, ip), limits.probe_timeout_s
        )
        outcome = ProbeOutcome.CONNECTED
    except ProbeEnded as end:
        outcome, detail = end.outcome, end.detail
    except (asyncio.TimeoutError, TimeoutError):
        outcome = ProbeOutcome.TIMED_OUT
        detail = "it accepts connections but does not answer" if ip else "too slow altogether"
    except asyncio.IncompleteReadError:
        outcome, detail = ProbeOutcome.NOT_RABBITMQ, "it hung up in the middle"
    except OSError as error:
        outcome, detail = ProbeOutcome.CLOSED, _reason(error)
    except Exception as error:  # one candidate must never end the round of all others
        logger.exception("probing %s failed", address)
        outcome, detail = ProbeOutcome.FAILED, type(error).__name__
    return ProbeResult(
        address=address,
        outcome=outcome,
        detail=printable(detail, login.password),
        duration_s=time.monotonic() - started,
        user=login.user,
        vhost=login.vhost,
        ip=ip[0] if ip else "",
    )


async def _connect_and_ask(
    address: Address,
    login: Login,
    tls: ssl.SSLContext | None,
    limits: ProbeLimits,
    ip: list[str],
) -> str:
    connection = await _connect(address, limits, ip)
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


async def _connect(address: Address, limits: ProbeLimits, ip: list[str]) -> socket.socket:
    """Make the TCP connection, to the first IP address of the host that takes it."""
    try:
        targets = await resolve(address, limits.resolve_timeout_s)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise ProbeEnded(ProbeOutcome.UNKNOWN_HOST, "no name server answered in time") from error
    except OSError as error:
        raise ProbeEnded(ProbeOutcome.UNKNOWN_HOST, _reason(error)) from error
    ip.append(targets[0].ip)
    end: ProbeEnded | None = None
    for target in targets:
        try:
            connection = socket.socket(target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as error:
            end = ProbeEnded(ProbeOutcome.FAILED, _reason(error))
            continue
        try:
            connection.setblocking(False)
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(connection, (target.ip, target.port)),
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
            asyncio.open_connection(sock=connection, ssl=tls, server_hostname=address.host),
            timeout_s,
        )
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise ProbeEnded(ProbeOutcome.TLS_FAILED, "no TLS handshake in time") from error
    except ssl.SSLCertVerificationError as error:
        detail = f"its certificate does not pass: {error.verify_message}"
        raise ProbeEnded(ProbeOutcome.TLS_FAILED, detail) from error
    except OSError as error:  # ssl.SSLError is one
        raise ProbeEnded(ProbeOutcome.TLS_FAILED, _reason(error)) from error


def _outcome_of(error: OSError) -> ProbeOutcome:
    if error.errno in _REFUSED:
        return ProbeOutcome.REFUSED
    if error.errno in _TIMED_OUT:
        return ProbeOutcome.TIMED_OUT
    if error.errno in _UNREACHABLE:
        return ProbeOutcome.UNREACHABLE
    return ProbeOutcome.FAILED


def _reason(error: Exception) -> str:
    """Say why, in the operating system's or the library's words."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _spare_files() -> int:
    """How many connections this process may open and leave half of its file descriptors alone."""
    if sys.platform == "win32":
        return PARALLELISM
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return PARALLELISM if soft == resource.RLIM_INFINITY else soft // 2
