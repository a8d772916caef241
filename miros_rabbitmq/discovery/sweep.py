"""One sweep of a network: make its hosts known to the ARP table, and read them from there.

Before the kernel sends anything to an address of the network, it asks for the address by ARP. Every
host answers such a question, whereas most ignore broadcast pings. So a sweep sends one empty UDP
datagram to each address, which takes no privilege and no program; it does not matter what happens
to the datagram. If the machine has the program ``ping``, the sweep also pings the broadcast
address: that costs nothing. It is all that is done in a network too large for the datagrams.

A sweep sends only to addresses of the interface's own network. It waits for no answers: it watches
the ARP table grow, and ends when the table grows no more.
"""

from __future__ import annotations

import errno
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from ..programs import find_program
from ..resources import naming_shortage
from .arp import ArpEntry, read_arp_table
from .interfaces import Interface, LinkKind

logger: logging.Logger = logging.getLogger(__name__)

LARGEST_SWEPT_PREFIX = 22
"""In a network of up to 1022 hosts, each address gets a datagram. A larger network gets the
broadcast ping only: Linux's ARP table holds 1024 entries (``gc_thresh3``) unless configured
otherwise."""

DISCARD_PORT = 9
"""The port of the discard protocol (RFC 863): a program that listens there discards what comes."""

BATCH_SIZE = 256
"""How many datagrams are sent in one go: enough for a /24."""

BATCH_INTERVAL_S = 1.0
"""Seconds from one batch to the next. An address that no host has occupies an entry of the table
for about three seconds, so that the table has to hold at most four batches."""

ADDRESSES_PER_SOCKET = 64
"""A datagram that waits for the answer to ARP occupies its socket's send buffer; a buffer of the
usual size holds about 270 of them."""

SETTLE_MIN_S = 1.2
"""How long the table is watched after the last batch, at least. The kernel repeats its ARP question
after a second, and a host whose radio sleeps may miss the first one."""

SETTLE_QUIET_S = 0.3
"""After `SETTLE_MIN_S`, the sweep ends as soon as the table has not grown for this long."""

SETTLE_MAX_S = 1.8
"""How long the table is watched after the last batch, at most."""

POLL_INTERVAL_S = 0.1
"""How often the table is read if it is a file."""

POLL_INTERVAL_PROGRAM_S = 0.4
"""How often the table is read if that takes a program."""

_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM})


class SweepResult(NamedTuple):
    """What a sweep has found."""

    addresses: list[str]
    """The other hosts of the network, in numerical order."""

    duration_s: float
    """How long the sweep took, in seconds."""


def sweep(
    interface: Interface,
    *,
    stop: threading.Event | None = None,
    read_table: Callable[[], Sequence[ArpEntry]] = read_arp_table,
    warn: Callable[[str], object] = logger.warning,
) -> SweepResult:
    """Find the other hosts on the network of an interface.

    Blocks for 1.2 to 1.8 s for a /24 or a smaller network, and for a second more with each further
    256 addresses. May be called from any thread. On a point-to-point link or a loopback there is
    nothing to sweep: returns the peer, if there is one, at once, and sends nothing.

    Args:
        interface: where to look. Nothing is sent to an address outside of its network.
        stop: ends the sweep early when it is set; the hosts found by then are returned.
        read_table: reads the ARP table.
        warn: takes a text that the user should see.

    Raises:
        OutOfResources: there is no file descriptor for a socket, or for the ARP table.
    """
    if interface.kind is not LinkKind.BROADCAST:
        return SweepResult([interface.peer] if interface.peer else [], 0.0)
    started = time.monotonic()
    ping = _start_broadcast_ping(interface)
    try:
        found = _fill_and_watch(interface, stop or threading.Event(), read_table, warn)
    finally:
        _end_ping(ping)
    return SweepResult(sorted(found, key=IPv4Address), time.monotonic() - started)


def targets_of(interface: Interface) -> list[str]:
    """Every address that gets a datagram: none if the network is too large for that."""
    if interface.kind is not LinkKind.BROADCAST:
        return []
    if interface.network.prefixlen < LARGEST_SWEPT_PREFIX:
        return []
    hosts = (str(host) for host in interface.network.hosts())
    return [host for host in hosts if host != interface.address]


def hosts_in(entries: Sequence[ArpEntry], interface: Interface) -> list[ArpEntry]:
    """Of the entries of an ARP table, those of other hosts on the network of an interface."""
    network = interface.network
    no_host = {network.network_address, network.broadcast_address, IPv4Address(interface.address)}
    device = interface.device
    return [
        entry
        for entry in entries
        if entry.interface in (device, interface.address)
        and IPv4Address(entry.address) in network
        and IPv4Address(entry.address) not in no_host
    ]


def _fill_and_watch(
    interface: Interface,
    stop: threading.Event,
    read_table: Callable[[], Sequence[ArpEntry]],
    warn: Callable[[str], object],
) -> set[str]:
    targets = targets_of(interface)
    if not targets:
        warn(
            f"{interface.network} on {interface.name} is larger than a /{LARGEST_SWEPT_PREFIX}: "
            "only hosts that answer a broadcast ping or are known to this machine will be found; "
            "name the others with addresses=, or another network with interface="
        )
    to_send = targets
    asked: set[str] = set()  # every address with an entry in the table, complete or not
    found: set[str] = set()
    poll_s = POLL_INTERVAL_S if sys.platform.startswith("linux") else POLL_INTERVAL_PROGRAM_S
    started = sent_at = grown_at = time.monotonic()
    # How many batches may be sent again: as many as there are, less one.
    spare_batches = -(-len(targets) // BATCH_SIZE) - 1
    next_batch_at = started
    while not stop.is_set():
        now = time.monotonic()
        if to_send and now >= next_batch_at:
            batch, to_send = to_send[:BATCH_SIZE], to_send[BATCH_SIZE:]
            send_datagrams(interface, batch, warn)
            sent_at, next_batch_at = now, now + BATCH_INTERVAL_S
        lines = hosts_in(read_table(), interface)
        asked.update(line.address for line in lines)
        answered = {line.address for line in lines if line.complete}
        if not answered <= found:
            found |= answered
            grown_at = now
        if not to_send:
            quiet = now - grown_at >= SETTLE_QUIET_S
            waited = now - sent_at
            if spare_batches > 0 and waited >= SETTLE_QUIET_S:
                # A full table drops entries without any error: send these datagrams again.
                to_send = [target for target in targets if target not in asked][:BATCH_SIZE]
                spare_batches = spare_batches - 1 if to_send else 0
            elif waited >= SETTLE_MAX_S or (waited >= SETTLE_MIN_S and quiet):
                break
        stop.wait(poll_s)
    return found


def send_datagrams(
    interface: Interface, addresses: Sequence[str], warn: Callable[[str], object] = logger.warning
) -> None:
    """Send an empty datagram to each address, and warn once if some cannot be sent.

    Args:
        interface: which interface to send from.
        addresses: where to send them.
        warn: takes the warning.

    Raises:
        OutOfResources: there is no file descriptor for a socket.
    """
    failure: OSError | None = None
    for start in range(0, len(addresses), ADDRESSES_PER_SOCKET):
        with naming_shortage():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setblocking(False)
            try:
                sender.bind((interface.address, 0))
            except OSError as error:  # the interface has lost this address since it was read
                failure = error
                break
            _bind_to_device(sender, interface)
            for address in addresses[start : start + ADDRESSES_PER_SOCKET]:
                try:
                    sender.sendto(b"", (address, DISCARD_PORT))
                except OSError as error:
                    if error.errno not in _LATER:
                        failure = error
    if failure is not None:
        warn(
            f"some hosts of {interface.network} on {interface.name} could not be asked "
            f"({failure.strerror or failure}) and may not be found; another network can be named "
            "with interface="
        )


def _bind_to_device(sender: socket.socket, interface: Interface) -> None:
    """Send the datagrams through this interface, even if another leads into the same network.

    Since Linux 5.7 everyone may do that. Elsewhere, the routing table chooses the interface.
    """
    option = getattr(socket, "SO_BINDTODEVICE", None)
    if option is None:
        return
    try:
        sender.setsockopt(socket.SOL_SOCKET, option, interface.device.encode() + b"\0")
    except OSError as error:
        logger.debug("the sweep cannot be bound to %s: %s", interface.name, error)


def _start_broadcast_ping(interface: Interface) -> subprocess.Popen[bytes] | None:
    broadcast = str(interface.network.broadcast_address)
    if sys.platform == "win32":
        options = ["-n", "1", "-w", "500"]
    elif sys.platform.startswith("linux"):
        options = ["-b", "-n", "-q", "-c", "2", "-w", "1", "-I", interface.device]
    else:
        options = ["-n", "-q", "-c", "2", "-t", "1"]
    try:
        return subprocess.Popen(
            [find_program("ping"), *options, broadcast],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        _say_once(
            "the broadcast address is not pinged, as ping is not installed; it is not needed"
            if isinstance(error, FileNotFoundError)
            else f"the broadcast address is not pinged ({error}); that is not needed"
        )
        return None


def _end_ping(ping: subprocess.Popen[bytes] | None) -> None:
    if ping is None:
        return
    if ping.poll() is None:
        ping.kill()
    elif ping.returncode not in (0, 1):  # 1: nobody answered, which is usual
        _say_once(f"the broadcast address could not be pinged (ping ended with {ping.returncode})")
    ping.wait()


_said: set[str] = set()
"""What was said in this process, as there is a sweep each minute."""


def _say_once(text: str) -> None:
    level = logging.DEBUG if text in _said else logging.INFO
    _said.add(text)
    logger.log(level, "%s", text)
