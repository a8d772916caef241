"""A link between two network namespaces that loses, delays, reorders and throttles IP packets.

Each end is a TUN device. A process reads the packets of one and writes them to the other, as a
link of a given `Link` would, with a queue that is bounded as a router's: so the TCP of the kernel
sees real loss, and slows down by its own rules. Linux does the same with netem, if it has it.

Run as ``python -m tests.faults.tun_link ONE OTHER``, the names of the namespaces; each line of
standard input is a `Link` as JSON, and answered by a line.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..lan.netns import Namespace

DEVICE = "tun0"
MTU = 1500

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


class Link(NamedTuple):
    """What the link does to the packets of each direction.

    Args:
        bytes_a_second: its rate; 0 is no limit.
        delay_s: how long a packet is under way.
        jitter_s: up to so much more, at random; so packets may overtake each other.
        loss: the part of the packets that are lost at random.
        queue_bytes: what waits for the rate; a packet that finds it full is lost, too.
    """

    bytes_a_second: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    queue_bytes: int = 30_000


class Lane:
    """The packets of one direction. Pure; the clock and randomness are handed in."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._free_at_s = 0.0
        self._under_way: list[tuple[float, int, bytes]] = []
        self._numbers = itertools.count()
        self.lost = 0

    def take(self, packet: bytes, link: Link, now_s: float) -> None:
        """A packet enters, and is lost or on its way."""
        if self._chance.random() < link.loss:
            self.lost += 1
            return
        passed_s = now_s
        if link.bytes_a_second:
            waits_s = max(0.0, self._free_at_s - now_s)
            if waits_s * link.bytes_a_second > link.queue_bytes:
                self.lost += 1
                return
            passed_s = now_s + waits_s + len(packet) / link.bytes_a_second
            self._free_at_s = passed_s
        due_s = passed_s + link.delay_s + self._chance.uniform(0, link.jitter_s)
        heapq.heappush(self._under_way, (due_s, next(self._numbers), packet))

    def due(self, now_s: float) -> Iterator[bytes]:
        """The packets that come out now."""
        while self._under_way and self._under_way[0][0] <= now_s:
            yield heapq.heappop(self._under_way)[2]

    def next_s(self, now_s: float) -> float | None:
        """The seconds until the next one comes out; `None` if none is under way."""
        return max(0.0, self._under_way[0][0] - now_s) if self._under_way else None


class TunLink:
    """The link as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def become(self, link: Link) -> None:
        """Be such a link from now on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(link) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def tun_link(one: Namespace, other: Namespace, addresses: tuple[str, str]) -> Iterator[TunLink]:
    """Connect two machines, which have these addresses of a network of two."""
    command = [sys.executable, "-m", "tests.faults.tun_link", one.name, other.name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for machine, address in zip((one, other), addresses, strict=True):
                machine.ip("address", "add", f"{address}/30", "dev", DEVICE)
                machine.ip("link", "set", DEVICE, "mtu", str(MTU), "up")
            yield TunLink(process)
        finally:
            process.kill()


def open_device(namespace: str) -> int:
    """Make the device of a namespace; this process moves there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as place:
        if libc.setns(place.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def main(one: str, other: str) -> None:
    """Forward packets until standard input ends."""
    devices = [open_device(one), open_device(other)]
    lanes = {device: Lane(random.Random(number)) for number, device in enumerate(devices)}
    outs = dict(zip(devices, reversed(devices), strict=True))
    link = Link()
    print("ready", flush=True)
    while True:
        now_s = time.monotonic()
        waits = [lane.next_s(now_s) for lane in lanes.values()]
        timeout_s = min((one for one in waits if one is not None), default=None)
        orders = sys.stdin.fileno()
        readable, _, _ = select.select([*devices, orders], [], [], timeout_s)
        now_s = time.monotonic()
        for descriptor in readable:
            if descriptor in lanes:
                _take_all(descriptor, lanes[descriptor], link, now_s)
                continue
            order = os.read(orders, 65_536)
            if not order:
                return
            link = Link(*json.loads(order))
            print("done", flush=True)
        for device, lane in lanes.items():
            for packet in lane.due(now_s):
                _give(outs[device], packet)


def _take_all(device: int, lane: Lane, link: Link, now_s: float) -> None:
    while True:
        try:
            packet = os.read(device, 65_536)
        except BlockingIOError:
            return
        except OSError:  # the device is not up yet
            time.sleep(0.01)
            return
        lane.take(packet, link, now_s)


def _give(device: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # its end is down or full: lost, as on any link
        os.write(device, packet)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
