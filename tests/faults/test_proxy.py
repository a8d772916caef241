"""The relay that the other tests of faults rely on: it harms as much as it is told, no more."""

from __future__ import annotations

import array
import fcntl
import itertools
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
from pika import frame, spec

from miros_rabbitmq.urls import Address

from ..helpers import scaled, wait_until
from .confirms import ConfirmFilter
from .proxy import Direction, FaultProxy
from .thin_link import Bucket, Shape

HOST = "127.0.0.44"

Accept = Callable[[], socket.socket]


@contextmanager
def relayed() -> Iterator[tuple[FaultProxy, Accept]]:
    """A relay to a listening socket, and how to get a connection there."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((HOST, 0)))
        server.settimeout(scaled(30))
        name = server.getsockname()
        proxy = stack.enter_context(FaultProxy(HOST, Address(name[0], name[1])))

        def accept() -> socket.socket:
            broker, _ = server.accept()
            broker.settimeout(scaled(30))
            stack.enter_context(closing(broker))
            return broker

        yield proxy, accept


@contextmanager
def connected(proxy: FaultProxy, accept: Accept) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection: the node's, and the broker's."""
    with socket.create_connection((proxy.address.host, proxy.address.port), scaled(30)) as node:
        node.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield node, accept()


@pytest.fixture
def ends() -> Iterator[tuple[FaultProxy, socket.socket, socket.socket]]:
    with relayed() as (proxy, accept), connected(proxy, accept) as (node, broker):
        yield proxy, node, broker


def read(end: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        assert more, f"closed after {len(data)}"
        data += more
    return data


def read_until_reset(end: socket.socket) -> bytes:
    """All that comes."""
    data = b""
    try:
        while True:
            data += read(end, 1)
    except ConnectionResetError:
        return data


def rate(end: socket.socket, seconds: float) -> float:
    """Bytes a second that come out, once they come steadily."""
    read(end, 1)
    began_s, count = time.monotonic(), 0
    while (took_s := time.monotonic() - began_s) < seconds:
        count += len(end.recv(65_536))
    return count / took_s


def is_about(found: float, bytes_a_second: float) -> bool:
    """Whether a link has its rate: never more, and less only as far as the machine is busy."""
    return 0.4 * bytes_a_second < found < 1.15 * bytes_a_second


@contextmanager
def flooding(end: socket.socket) -> Iterator[None]:
    """Write without end, from a thread."""

    def write() -> None:
        try:
            while True:
                end.sendall(bytes(4096))
        except OSError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        end.shutdown(socket.SHUT_RDWR)
        writer.join()


@pytest.mark.parametrize("bytes_a_second", [2_000, 32_000, 1_000_000])
def test_a_thin_link_has_its_rate(
    ends: tuple[FaultProxy, socket.socket, socket.socket], bytes_a_second: int
) -> None:
    proxy, node, broker = ends
    proxy.slow_down(bytes_a_second=bytes_a_second)
    with flooding(node):
        found = rate(broker, 1.5)
        assert is_about(found, bytes_a_second)
        proxy.heal()
        assert rate(broker, 0.5) > min(5 * bytes_a_second, 1_400_000)


def test_each_direction_has_the_rate_for_itself_and_connections_share_it() -> None:
    with relayed() as (proxy, accept), ExitStack() as stack:
        ends = [stack.enter_context(connected(proxy, accept)) for _ in range(2)]
        proxy.shape(Shape(Bucket(20_000)), Shape(Bucket(60_000)))
        found: dict[str, float] = {}

        def measure(name: str, end: socket.socket) -> None:
            found[name] = rate(end, 1.5)

        with flooding(ends[0][0]), flooding(ends[1][0]), flooding(ends[0][1]):
            measured = [("a", ends[0][1]), ("b", ends[1][1]), ("back", ends[0][0])]
            threads = [threading.Thread(target=measure, args=one) for one in measured]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
        assert is_about(found["a"] + found["b"], 20_000)
        assert 0.5 < found["a"] / found["b"] < 2
        assert is_about(found["back"], 60_000)


def test_two_relays_share_the_bucket_of_an_uplink() -> None:
    uplink = Shape(Bucket(40_000))
    with relayed() as one, relayed() as other, connected(*one) as a, connected(*other) as b:
        for proxy in (one[0], other[0]):
            proxy.shape(uplink, Shape())
        with flooding(a[0]), flooding(b[0]):
            found: list[float] = []
            second = threading.Thread(target=lambda: found.append(rate(b[1], 1.5)))
            second.start()
            found.append(rate(a[1], 1.5))
            second.join()
        assert is_about(sum(found), 40_000)


@pytest.mark.parametrize("buffer_bytes", [None, 4096], ids=["kernel's buffer", "4 kB buffer"])
def test_who_sends_more_than_a_thin_link_carries_is_held_up_after_some_kilobytes(
    ends: tuple[FaultProxy, socket.socket, socket.socket], buffer_bytes: int | None
) -> None:
    proxy, node, _broker = ends
    proxy.slow_down(bytes_a_second=2_000)
    if buffer_bytes is not None:
        node.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    node.setblocking(False)
    written = 0
    deadline_s = time.monotonic() + 1.0
    while time.monotonic() < deadline_s:
        try:
            written += node.send(bytes(1_000_000))
        except BlockingIOError:
            time.sleep(0.01)
    kept = written - outstanding(node)
    print(f"{written:,} bytes written, of which the relay took {kept:,}")
    # What a sender's own kernel keeps beyond that is its own affair.
    assert kept < 40_000
    assert written < (500_000 if buffer_bytes is None else 50_000)


def outstanding(end: socket.socket) -> int:
    """Bytes in the sender's kernel, sent or not, that the other side has not acknowledged."""
    found = array.array("i", [0])
    fcntl.ioctl(end, 0x5411, found)  # SIOCOUTQ
    return found[0]


def test_delay_and_jitter_are_as_told_and_bytes_stay_in_order(
    ends: tuple[FaultProxy, socket.socket, socket.socket],
) -> None:
    proxy, node, broker = ends
    proxy.slow_down(delay_s=0.1, jitter_s=0.1)
    sent_s, came_s = [], []

    def send() -> None:
        for number in range(50):
            sent_s.append(time.monotonic())
            node.sendall(bytes([number]))
            time.sleep(0.02)

    sender = threading.Thread(target=send)
    sender.start()
    for number in range(50):
        assert read(broker, 1) == bytes([number])
        came_s.append(time.monotonic())
    sender.join()
    delays = [came - sent for sent, came in zip(sent_s, came_s, strict=True)]
    assert min(delays) > 0.095
    assert 0.12 < statistics.median(delays) < 0.2 + scaled(1)
    assert max(delays) - min(delays) > 0.03


def test_a_link_with_delay_is_not_thin(
    ends: tuple[FaultProxy, socket.socket, socket.socket],
) -> None:
    proxy, node, broker = ends
    proxy.slow_down(delay_s=0.02)
    with flooding(node):
        assert rate(broker, 1.0) > 200_000


def test_loss_stalls_the_stream_and_loses_no_byte(
    ends: tuple[FaultProxy, socket.socket, socket.socket],
) -> None:
    proxy, node, broker = ends
    proxy.slow_down(loss=0.2)
    sent = bytes(itertools.islice(itertools.cycle(range(251)), 60_000))
    sender = threading.Thread(target=lambda: node.sendall(sent))
    began_s = time.monotonic()
    sender.start()
    assert read(broker, len(sent)) == sent
    sender.join()
    assert time.monotonic() - began_s > 0.2


def test_a_paused_link_lets_nothing_pass_and_loses_nothing(
    ends: tuple[FaultProxy, socket.socket, socket.socket],
) -> None:
    proxy, node, broker = ends
    proxy.pause(Direction.TO_BROKER)
    node.sendall(b"later")
    broker.sendall(heartbeat())
    assert read(node, 8) == heartbeat()
    broker.settimeout(0.2)
    with pytest.raises(TimeoutError):
        broker.recv(1)
    proxy.heal()
    broker.settimeout(scaled(30))
    assert read(broker, 5) == b"later"


def test_who_is_spared_is_not_slowed_down() -> None:
    with relayed() as (proxy, accept), connected(proxy, accept) as (near, near_broker):
        proxy.spare_present()
        with connected(proxy, accept) as (far, far_broker):
            proxy.pause()
            far.sendall(b"far")
            near.sendall(b"near")
            assert read(near_broker, 4) == b"near"
            proxy.heal()
            assert read(far_broker, 3) == b"far"


def test_a_silent_direction_loses_its_bytes_and_the_other_does_not(
    ends: tuple[FaultProxy, socket.socket, socket.socket],
) -> None:
    proxy, node, broker = ends
    proxy.silence(Direction.TO_BROKER)
    node.sendall(b"lost")
    broker.sendall(heartbeat())
    assert read(node, 8) == heartbeat()
    broker.settimeout(0.2)
    with pytest.raises(TimeoutError):
        broker.recv(1)


def test_a_cut_resets_both_ends(ends: tuple[FaultProxy, socket.socket, socket.socket]) -> None:
    proxy, node, broker = ends
    wait_until(lambda: proxy.open_connections == 1)
    assert proxy.cut() == 1
    for end in (node, broker):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    wait_until(lambda: proxy.open_connections == 0)


def test_a_cut_on_the_nodes_side_leaves_the_broker_with_a_silent_connection(
    ends: tuple[FaultProxy, socket.socket, socket.socket],
) -> None:
    proxy, node, broker = ends
    wait_until(lambda: proxy.open_connections == 1)
    proxy.cut_on_the_nodes_side()
    with pytest.raises(ConnectionResetError):
        node.recv(1)
    broker.sendall(bytes(200_000))
    broker.settimeout(0.2)
    with pytest.raises(TimeoutError):
        broker.recv(1)
    broker.close()
    wait_until(lambda: proxy.open_connections == 0)


def test_a_cut_at_a_byte_lets_those_before_it_pass() -> None:
    with relayed() as (proxy, accept):
        proxy.cut_at(11)
        with connected(proxy, accept) as (node, broker):
            broker.sendall(heartbeat() * 2)
            came = read_until_reset(node)
            # A reset may overtake bytes, but none comes after it.
            assert came == (heartbeat() * 2)[: len(came)]
            assert len(came) <= 11
            assert proxy.cuts == 1
        with connected(proxy, accept) as (node, broker):
            broker.sendall(heartbeat() * 2)
            assert read(node, 16) == heartbeat() * 2


def heartbeat() -> bytes:
    return bytes(frame.Heartbeat().marshal())


def method(what: object) -> bytes:
    return bytes(frame.Method(1, what).marshal())


def test_confirms_alone_are_dropped_wherever_the_stream_is_cut() -> None:
    ack, nack = method(spec.Basic.Ack(7, True)), method(spec.Basic.Nack(8))
    others = [heartbeat(), method(spec.Basic.QosOk()), bytes(frame.Body(1, ack).marshal())]
    stream = b"".join((ack, others[0], nack, others[1], ack, others[2], ack))
    for size in (1, 3, 7, 20, len(stream)):
        confirms = ConfirmFilter()
        confirms.is_closed = True
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert b"".join(map(confirms.feed, pieces)) == b"".join(others)
        assert confirms.dropped == 4
        confirms.is_closed = False
        assert confirms.feed(stream) == stream
