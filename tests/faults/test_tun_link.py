"""The link between namespaces does to packets what it is told, and TCP feels it."""

from __future__ import annotations

import json
import os
import random
import secrets
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.fernet import Fernet

from ..helpers import scaled
from ..lan.netns import Namespace, finish, why_not
from .tun_link import Lane, Link, TunLink, tun_link

ONE, OTHER = "10.99.0.1", "10.99.0.2"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Namespace, Namespace, TunLink]]:
    reason = why_not()
    if not reason and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        reason = "there is no /dev/net/tun"
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        one, other = Namespace(), Namespace()
        stack.callback(one.close)
        stack.callback(other.close)
        yield one, other, stack.enter_context(tun_link(one, other, (ONE, OTHER)))


RECEIVE = """
import json, socket, time
server = socket.create_server(("10.99.0.2", 5000))
print("ready", flush=True)
connection, _ = server.accept()
connection.recv(1)
began, count = time.monotonic(), 0
while data := connection.recv(65536):
    count += len(data)
print(json.dumps(count / (time.monotonic() - began)))
"""

SEND = """
import json, socket, struct, time
connection = socket.create_connection(("10.99.0.2", 5000))
connection.sendall(bytes({count}))
connection.shutdown(socket.SHUT_WR)
connection.settimeout(60)
connection.recv(1)
info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
rtt_us, resent = struct.unpack_from("I", info, 68)[0], struct.unpack_from("I", info, 100)[0]
print(json.dumps([rtt_us / 1e6, resent]))
"""


def transfer(one: Namespace, other: Namespace, count: int) -> tuple[float, float, int]:
    """Send bytes by TCP: bytes a second, round trip in seconds, and segments sent again."""
    receiving = other.start(RECEIVE)
    assert receiving.stdout is not None
    assert receiving.stdout.readline() == "ready\n"
    rtt_s, resent = one.run(SEND.format(count=count))
    rate: Any = finish(receiving)
    return rate, rtt_s, resent


def test_tcp_gets_the_rate_of_the_link(machines: tuple[Namespace, Namespace, TunLink]) -> None:
    one, other, link = machines
    link.become(Link(bytes_a_second=100_000, delay_s=0.02))
    rate, rtt_s, _ = transfer(one, other, 300_000)
    # Less the headers, and what is sent again.
    assert 70_000 < rate < 100_000
    assert rtt_s > 0.04


def test_tcp_sends_again_what_is_lost(machines: tuple[Namespace, Namespace, TunLink]) -> None:
    one, other, link = machines
    link.become(Link(loss=0.05, delay_s=0.005))
    _, _, resent = transfer(one, other, 500_000)
    assert resent > 5


def test_a_lane_throttles_delays_reorders_and_drops() -> None:
    lane = Lane(random.Random(1))
    thin = Link(bytes_a_second=1_000, queue_bytes=3_000, delay_s=0.5)
    for _ in range(10):
        lane.take(bytes(1_000), thin, 0.0)
    # One on the wire, and three that wait; a packet that finds more waiting is lost.
    assert lane.lost == 6
    came = [time for time in range(1, 10) for _ in lane.due(time + 0.5)]
    assert came == [1, 2, 3, 4]
    lane = Lane(random.Random(1))
    for number in range(100):
        lane.take(bytes([number]), Link(jitter_s=1.0), 0.0)
    assert (lane.next_s(0.0) or 0) < 0.1
    order = [packet[0] for packet in lane.due(1.0)]
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    lane = Lane(random.Random(1))
    for _ in range(10_000):
        lane.take(b"x", Link(loss=0.05), 0.0)
    assert 400 < lane.lost < 600


@pytest.mark.slow
def test_a_thin_and_lossy_link_is_not_felt_by_the_others(
    rabbitmq_installed: None, machines: tuple[Namespace, Namespace, TunLink]
) -> None:
    near, far, link = machines
    link.become(Link(delay_s=0.002))
    arguments = json.dumps(
        {
            "key": Fernet.generate_key().decode(),
            "password": secrets.token_urlsafe(),
            "near_host": ONE,
            "far_host": OTHER,
        }
    )
    ends = [
        machine.start(f"from tests.faults.lossy import main; main({role!r}, {arguments!r})")
        for role, machine in (("far", far), ("near", near))
    ]
    receiving, sending = ends
    assert hear(receiving) == "ready"
    assert hear(sending) == "link"
    link.become(Link(32_000, delay_s=0.05, jitter_s=0.02, loss=0.02))
    tell(sending)
    assert hear(sending) == "heal"
    link.become(Link(delay_s=0.002))
    tell(sending)
    report = hear(sending)
    tell(receiving, str(report["transmitted"]))
    delivered, duplicated, reordered, gaps = hear(receiving)
    print(report, delivered, gaps)
    for end in ends:
        tell(end)
    for end in ends:
        _, complaints = end.communicate(timeout=scaled(30))
        assert end.returncode == 0, complaints
    assert report["clean"]
    assert report["refused"] == 0
    assert report["dropped"] > 0, "the test is to fill the backlog"
    assert delivered + report["dropped"] == report["transmitted"]
    assert gaps == report["dropped"]
    assert (duplicated, reordered) == (0, 0)
    usual_s = max(report["without"])
    assert statistics.median(report["beside"]) < max(3 * usual_s, scaled(1.5))


def tell(end: subprocess.Popen[str], line: str = "") -> None:
    assert end.stdin is not None
    end.stdin.write(line + "\n")
    end.stdin.flush()


def hear(end: subprocess.Popen[str]) -> Any:
    assert end.stdout is not None
    line = end.stdout.readline()
    if not line:
        raise AssertionError(end.communicate()[1])
    return json.loads(line)
