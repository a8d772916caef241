"""Turning the name of a host into IP addresses without holding anything up.

A lookup cannot be cancelled, and with a dead name server it takes tens of seconds. The pool that an
event loop keeps for lookups would hold up the end of the loop, and of the interpreter, for as
long; so each name has a daemon thread of its own here, which an impatient caller just leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from typing import NamedTuple

from .urls import Address


class Target(NamedTuple):
    """What a socket can be connected to."""

    family: socket.AddressFamily
    ip: str
    port: int


async def resolve(address: Address, timeout_s: float) -> list[Target]:
    """Return the IP addresses of a host, in the order in which the system prefers them.

    Raises:
        OSError, UnicodeError: the name does not resolve, or cannot be one.
        asyncio.TimeoutError: no answer for ``timeout_s`` seconds.
    """
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        return await asyncio.wait_for(_look_up(address), timeout_s)
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    return [Target(family, address.host, address.port)]


def _look_up(address: Address) -> asyncio.Future[list[Target]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Target]] = loop.create_future()

    def settle(targets: list[Target], error: Exception | None) -> None:
        if answer.done():  # cancelled by the timeout
            return
        if error is None:
            answer.set_result(targets)
        else:
            answer.set_exception(error)

    def run() -> None:
        targets: list[Target] = []
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            targets = [Target(one[0], str(one[4][0]), address.port) for one in found]
        except (OSError, UnicodeError) as error:  # the latter for a label that cannot be one
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, targets, failure)

    threading.Thread(target=run, name=f"miros-rabbitmq-resolve-{address.host}", daemon=True).start()
    return answer
