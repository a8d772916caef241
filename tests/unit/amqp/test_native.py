"""Native I/O writes and reads the same bytes as pika, loses none, and keeps their order."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pika
import pika.channel
import pika.connection
import pika.heartbeat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq import SettingsError, SimplePikaTopicPublisher
from miros_rabbitmq.amqp import io_choice
from miros_rabbitmq.amqp.message_io import Delivery, Outbound
from miros_rabbitmq.amqp.native import Confirms, Deliveries, NativeWire, Publishing, misfit, write
from miros_rabbitmq.amqp.owed import Owed
from miros_rabbitmq.amqp.services import Tap

from ...amqp import Endless, opened
from ...helpers import Poison

FRAME_MAX = 4_096
PROPERTIES = pika.BasicProperties(delivery_mode=2)
EXCHANGE = "miros.mesh"


class Pika(pika.connection.Connection):  # type: ignore[misc]  # pika has no type hints
    """pika's own marshalling, its output kept."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.params = SimpleNamespace(frame_max=FRAME_MAX)
        self._body_max_length = FRAME_MAX - 8
        self.bytes_sent = self.frames_sent = 0

    def send(self, channel: int, method: Any, content: tuple[Any, bytes]) -> bytes:
        self._send_message(channel, method, content)
        return bytes(self.written)

    def _adapter_emit_data(self, data: bytes) -> None:
        self.written += data

    # What the base class leaves to its subclasses, and is not used here.
    _adapter_add_timeout = _adapter_remove_timeout = None
    _adapter_add_callback_threadsafe = _adapter_connect_stream = _adapter_disconnect_stream = None
    _adapter_call_later = None


class Transport:
    """The part of pika's transport that is used."""

    def __init__(self, sock: Any, buffered: int = 0) -> None:
        self._sock = sock
        self.buffered = buffered
        self.left_to_pika = bytearray()
        self._state = self._STATE_ACTIVE = 1
        self.aborted_by: list[BaseException] = []

    def _initiate_abort(self, error: BaseException) -> None:
        self.aborted_by.append(error)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def write(self, data: bytes) -> None:
        self.left_to_pika += data


def over(transport: Transport) -> Any:
    """A connection over a transport."""
    return SimpleNamespace(_transport=transport, params=SimpleNamespace(frame_max=FRAME_MAX))


@pytest.fixture
def sockets() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


class Taking:
    """Stands in for a tap, and may refuse what comes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.refuses: Exception | None = None

    def data_received(self, data: bytes) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.data += data


def test_it_reads_in_pikas_place_and_leaves_the_end_of_the_stream_to_it(sockets: Any) -> None:
    ours, theirs = sockets
    transport, taking = Transport(ours), Taking()
    wire: Any = NativeWire()
    read = wire.open(over(transport), taking)
    assert read()  # there was nothing
    theirs.send(b"some frames")
    assert read()
    assert taking.data == b"some frames"
    taking.refuses = ValueError("junk")
    theirs.send(b"more")
    assert read()
    assert transport.aborted_by == [taking.refuses]
    transport._state = 2
    assert not read()  # pika has given the connection up
    transport._state = transport._STATE_ACTIVE
    theirs.close()
    assert not read()
    assert len(transport.aborted_by) == 1
    ours.close()
    assert read()
    assert isinstance(transport.aborted_by[1], OSError)


def received(sock: socket.socket) -> bytes:
    data = bytearray()
    try:
        while piece := sock.recv(65_536):
            data += piece
    except BlockingIOError:
        pass
    return bytes(data)


@pytest.mark.parametrize("size", [0, 1, 300, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 20_000])
@pytest.mark.parametrize("mandatory", [True, False])
def test_it_writes_what_pika_would(sockets: Any, size: int, mandatory: bool) -> None:
    body = bytes(n % 251 for n in range(size))
    method = pika.spec.Basic.Publish(exchange=EXCHANGE, routing_key="some.key", mandatory=mandatory)
    expected = Pika().send(7, method, (PROPERTIES, body))
    ours, theirs = sockets
    transport = Transport(ours)
    channel = SimpleNamespace(channel_number=7, connection=over(transport))
    outbound = Outbound(EXCHANGE, PROPERTIES)
    publishing = Publishing(channel, outbound, Owed(), mandatory=mandatory)
    for _ in range(2):
        assert publishing.publish("some.key", body)
        assert received(theirs) == expected
    assert not transport.left_to_pika


def test_each_message_goes_by_its_own_routing_key_however_many_there_are(sockets: Any) -> None:
    ours, theirs = sockets
    transport = Transport(ours)
    channel = SimpleNamespace(channel_number=7, connection=over(transport))
    publishing = Publishing(channel, Outbound(EXCHANGE, PROPERTIES), Owed(), mandatory=True)
    for number in [*range(1_000), *range(1_000)]:
        key = f"key.{number}"
        method = pika.spec.Basic.Publish(exchange=EXCHANGE, routing_key=key, mandatory=True)
        assert publishing.publish(key, b"body")
        assert received(theirs) == Pika().send(7, method, (PROPERTIES, b"body"))


def test_bytes_that_a_full_socket_does_not_take_are_left_to_pika(sockets: Any) -> None:
    ours, theirs = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    transport = Transport(ours)
    data = bytes(n % 251 for n in range(2_000_000))
    assert not write(over(transport), data)
    assert 0 < len(transport.left_to_pika) < len(data)
    assert received(theirs) + transport.left_to_pika == data


def test_what_pika_still_has_to_write_goes_first(sockets: Any) -> None:
    ours, theirs = sockets
    transport = Transport(ours, buffered=1)
    assert not write(over(transport), b"later")
    assert transport.left_to_pika == b"later"
    assert received(theirs) == b""


@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EPIPE])
def test_no_error_of_a_socket_reaches_the_sender(code: int) -> None:
    def fail(_: bytes) -> int:
        raise OSError(code, "gone")

    transport = Transport(SimpleNamespace(send=fail))
    assert not write(over(transport), b"again")
    assert transport.left_to_pika == b"again", "pika tries, and finds out"


def test_a_broken_socket_is_left_to_pika_to_report(sockets: Any) -> None:
    ours, theirs = sockets
    theirs.close()
    transport = Transport(ours)
    assert not write(over(transport), b"lost")
    assert transport.left_to_pika == b"lost"


# Whether this pika is one that native I/O can be used with.


@pytest.fixture
def choose_anew() -> Iterator[None]:
    """Make the choice again, as in a new process."""
    io_choice.forget_choice()
    yield
    io_choice.forget_choice()


def test_the_pika_that_is_installed_has_all_the_parts() -> None:
    assert misfit() == ""


@pytest.mark.parametrize("part", ["_MAX_RECV_BYTES", "_MAX_CONSUME_BYTES"])
def test_a_pika_that_lacks_one_of_the_parts_is_recognized(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.delattr(pika.adapters.utils.io_services_utils._AsyncTransportBase, part)
    assert part in misfit()


def test_a_pika_with_other_heartbeats_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pika.heartbeat.HeartbeatChecker, "stop", lambda _: None)
    assert "_send_timer" in misfit()


@pytest.mark.parametrize("kind", ["Method", "Header", "Body"])
def test_a_pika_that_writes_other_bytes_is_recognized(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    marshal = getattr(pika.frame, kind).marshal
    # Each frame differs from the one before, so a frame made once differs from one made again.
    count = itertools.count(1 if kind == "Body" else 0)
    monkeypatch.setattr(
        getattr(pika.frame, kind),
        "marshal",
        lambda self: marshal(self) + bytes(next(count)),
    )
    assert "pika" in misfit()


def test_a_pika_with_another_structure_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pika.adapters.utils.io_services_utils, "_AsyncTransportBase")
    assert "not as expected" in misfit()


@pytest.mark.usefixtures("choose_anew")
def test_plain_io_is_used_if_native_does_not_fit_and_this_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(io_choice.VARIABLE, raising=False)
    monkeypatch.setattr(io_choice, "misfit", lambda: "pika 9 has no _sock")
    for _ in range(3):
        assert io_choice.io_name() == "plain"
        assert io_choice.choose_wire().name == "plain"
    assert caplog.text.count("pika 9 has no _sock") == 1


@pytest.mark.usefixtures("choose_anew")
@pytest.mark.parametrize(
    ("value", "name"),
    [("plain", "plain"), ("native", "native"), ("", "native"), ("fast", "native")],
)
def test_the_environment_chooses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, name: str
) -> None:
    monkeypatch.setenv(io_choice.VARIABLE, value)
    assert io_choice.io_name() == name
    assert io_choice.choose_wire().name == name
    assert ("'native' or 'plain', not 'fast'" in caplog.text) == (value == "fast")


@pytest.mark.parametrize("value", ["", " ", "fast", "Plain", "plain "])
def test_what_the_environment_asks_for_is_checked_where_one_is_still_told(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    for good in ("native", "plain"):
        monkeypatch.setenv(io_choice.VARIABLE, good)
        io_choice.check_io_choice()
    monkeypatch.delenv(io_choice.VARIABLE)
    io_choice.check_io_choice()
    monkeypatch.setenv(io_choice.VARIABLE, value)
    with pytest.raises(SettingsError, match="MIROS_RABBITMQ_IO must be 'native' or 'plain', not"):
        io_choice.check_io_choice()
    with pytest.raises(SettingsError, match="MIROS_RABBITMQ_IO must be"):
        SimplePikaTopicPublisher("amqp://u:p@127.0.0.1:1/", "exchange", "key")


# What is read without pika.

OURS, TAG = 7, "ctag7.ours"


class Fed:
    """A tap that is fed bytes; the frames that it leaves to pika are assembled as pika does it."""

    def __init__(self, most_body: int | None = None) -> None:
        conduct = opened(OURS)
        conduct.expect_deliveries(OURS, TAG, most_body)
        conduct.expect_confirms(OURS, Endless())
        self.tap = Tap(self, conduct)
        self.inflow = self.tap.inflow
        self.channel = SimpleNamespace(channel_number=OURS, is_open=True, connection=None)
        self.seen: list[Any] = []
        self.bytes_received = 0
        self._buffer = b""
        self._assembler = pika.channel.ContentFrameAssembler()
        self.tap.count_for(self)

    def data_received(self, data: bytes) -> None:
        """Stands in for pika's protocol."""
        self._buffer += data
        while self._buffer:
            size, frame_value = pika.frame.decode_frame(self._buffer)
            if frame_value is None:
                return
            self._buffer = self._buffer[size:]
            self._process_frame(frame_value)

    def _process_frame(self, frame_value: Any) -> None:
        if isinstance(frame_value, pika.frame.Heartbeat):
            self.seen.append("heartbeat")
        elif not isinstance(getattr(frame_value, "method", None), pika.spec.Basic.Ack):
            self._assemble(frame_value)
        else:
            self.seen.append(("ack of pika", frame_value.method.delivery_tag))

    def _assemble(self, frame_value: Any) -> None:
        message = self._assembler.process(frame_value)
        if message is not None:
            method, _header, body = message
            self.seen.append(
                Delivery(
                    body,
                    method.method.routing_key,
                    method.method.exchange,
                    method.method.redelivered,
                    method.method.delivery_tag,
                )
            )

    def feed(self, stream: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
        for begin, end in itertools.pairwise(edges):
            if begin < end:
                self.tap.data_received(stream[begin:end])


def marshalled(
    delivery: Delivery,
    *,
    properties: pika.BasicProperties = PROPERTIES,
    consumer_tag: str = TAG,
    channel: int = OURS,
    fragment: int = FRAME_MAX,
) -> bytes:
    """A delivery like one that a broker sends."""
    method = pika.spec.Basic.Deliver(
        consumer_tag=consumer_tag,
        delivery_tag=delivery.tag,
        redelivered=delivery.redelivered,
        exchange=delivery.exchange,
        routing_key=delivery.routing_key,
    )
    body = delivery.body
    frames = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(body), properties),
        *(
            pika.frame.Body(channel, body[at : at + fragment])
            for at in range(0, len(body), fragment)
        ),
    ]
    return b"".join(frame.marshal() for frame in frames)


DELIVERIES = st.builds(
    Delivery,
    st.binary(max_size=40),
    st.text(max_size=12),
    st.text(max_size=12),
    st.booleans(),
    st.integers(0, 2**64 - 1),
)


@given(
    parts=st.lists(st.just("heartbeat") | st.tuples(DELIVERIES, st.integers(1, 40))),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_deliveries_are_read_as_pika_reads_them_wherever_the_stream_is_cut(
    parts: list[Any], cuts: list[int]
) -> None:
    connection = Fed()
    taken = 0

    def note(delivery: Delivery) -> None:
        nonlocal taken
        taken += 1
        connection.seen.append(delivery)

    connection.inflow.shortcut = Deliveries(connection.channel, TAG, note).take
    stream = b"".join(
        pika.frame.Heartbeat().marshal()
        if part == "heartbeat"
        else marshalled(part[0], fragment=part[1])
        for part in parts
    )
    connection.feed(stream, cuts)
    assert connection.seen == [part if part == "heartbeat" else part[0] for part in parts]
    assert connection.bytes_received == len(stream)
    if not cuts and "heartbeat" not in parts:
        assert taken == len(parts), "pika was not needed"


ONE = Delivery(b"one", "a.key", EXCHANGE, False, 1)


@pytest.mark.parametrize(
    "stream",
    [
        marshalled(ONE, consumer_tag="another"),
        marshalled(ONE, channel=OURS + 1),
        marshalled(ONE).replace(b"one\xce", b"one\xcf"),
        marshalled(ONE)[:-1] + b"\0",
        pika.frame.Method(OURS, pika.spec.Basic.Cancel(consumer_tag=TAG)).marshal(),
        b"",
        b"\x01",
        marshalled(ONE)[:-1],
        marshalled(ONE)[:20],
    ],
)
def test_anything_but_a_whole_delivery_to_the_consumer_is_left_to_pika(stream: bytes) -> None:
    heard: list[Delivery] = []
    deliveries = Deliveries(Fed().channel, TAG, heard.append)
    good = marshalled(ONE)
    assert deliveries.take(good + stream) == len(good)
    assert heard == [ONE]


SHORT = st.none() | st.text(max_size=20)


@given(
    properties=st.builds(
        pika.BasicProperties,
        content_type=SHORT,
        content_encoding=SHORT,
        headers=st.none() | st.dictionaries(st.text(max_size=9), st.integers(0, 99) | SHORT),
        delivery_mode=st.none() | st.integers(1, 2),
        priority=st.none() | st.integers(0, 9),
        correlation_id=SHORT,
        reply_to=SHORT,
        expiration=SHORT,
        message_id=SHORT,
        timestamp=st.none() | st.integers(0, 2**32),
        type=SHORT,
        user_id=SHORT,
        app_id=SHORT,
        cluster_id=SHORT,
    )
)
def test_a_delivery_is_read_whatever_properties_it_has(properties: pika.BasicProperties) -> None:
    heard: list[Delivery] = []
    stream = marshalled(ONE, properties=properties)
    assert Deliveries(Fed().channel, TAG, heard.append).take(2 * stream) == 2 * len(stream)
    assert heard == [ONE, ONE]


@pytest.mark.parametrize("by_pika", [True, False])
def test_a_header_table_for_which_pika_raises_is_not_read(by_pika: bool) -> None:
    connection = Fed()
    connection.inflow.shortcut = Deliveries(connection.channel, TAG, connection.seen.append).take
    stream = marshalled(ONE, properties=Poison())
    connection.feed(stream, [1] if by_pika else [])
    assert connection.seen == [ONE]


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    fragment=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    shortcut=st.booleans(),
)
def test_a_body_that_is_refused_for_its_size_is_cut_and_the_next_is_whole(
    sizes: list[int], fragment: int, cuts: list[int], shortcut: bool
) -> None:
    """Whoever has the password of a broker may send a message of a hundred megabytes."""
    connection = Fed(most_body=20)
    if shortcut:
        deliveries = Deliveries(connection.channel, TAG, connection.seen.append, 20)
        connection.inflow.shortcut = deliveries.take
    sent = [
        Delivery(bytes(range(size)), "key", "exchange", False, number)
        for number, size in enumerate(sizes, start=1)
    ]
    connection.feed(b"".join(marshalled(one, fragment=fragment) for one in sent), cuts)
    assert connection.seen == [one._replace(body=one.body[:21]) for one in sent]


@pytest.mark.parametrize("size", [0, 1, 5_000])
def test_what_is_published_may_come_back_and_nothing_larger(sockets: Any, size: int) -> None:
    channel = SimpleNamespace(channel_number=OURS, connection=over(Transport(sockets[0])))
    owed = Owed()
    outbound = Outbound(EXCHANGE, PROPERTIES)
    publishing = Publishing(channel, outbound, owed, mandatory=True)
    for one in (0, size, size // 2):
        publishing.publish("key", bytes(one))
    assert owed.most_returned == size


def test_nothing_is_handed_over_once_the_channel_is_closing() -> None:
    connection = Fed()

    def close(_: Delivery) -> None:
        connection.channel.is_open = False

    stream = marshalled(ONE)
    assert Deliveries(connection.channel, TAG, close).take(2 * stream) == len(stream)


def test_what_comes_after_the_end_of_the_connection_is_dropped() -> None:
    connection = Fed()

    def cut(_: Delivery) -> None:
        connection.channel.is_open = False
        connection.tap.mute()

    connection.inflow.shortcut = Deliveries(connection.channel, TAG, cut).take
    connection.feed(2 * marshalled(ONE), [])
    assert connection.seen == []


def ack(tag: int, *, multiple: bool, channel: int = OURS) -> bytes:
    frame: bytes = pika.frame.Method(
        channel, pika.spec.Basic.Ack(delivery_tag=tag, multiple=multiple)
    ).marshal()
    return frame


@given(
    acks=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans())),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_confirms_are_read_as_pika_reads_them_wherever_the_stream_is_cut(
    acks: list[tuple[int, bool]], cuts: list[int]
) -> None:
    connection = Fed()
    by_us: list[tuple[int, bool]] = []

    def note(tag: int, multiple: bool) -> None:
        by_us.append((tag, multiple))
        connection.seen.append(("ack of pika", tag))

    connection.inflow.shortcut = Confirms(connection.channel, note, Endless()).take
    stream = b"".join(ack(tag, multiple=multiple) for tag, multiple in acks)
    connection.feed(stream, cuts)
    assert connection.seen == [("ack of pika", tag) for tag, _ in acks]
    assert connection.bytes_received == len(stream)
    if not cuts:
        assert by_us == acks


@pytest.mark.parametrize(
    "stream",
    [
        ack(2, multiple=False, channel=OURS + 1),
        pika.frame.Method(OURS, pika.spec.Basic.Nack(delivery_tag=2)).marshal(),
        ack(2, multiple=False)[:-1] + b"\0",
        ack(2, multiple=False)[:-1],
        pika.frame.Heartbeat().marshal() + ack(2, multiple=False),
    ],
)
def test_any_other_frame_than_a_confirm_is_left_to_pika(stream: bytes) -> None:
    heard: list[int] = []
    confirms = Confirms(Fed().channel, lambda tag, _: heard.append(tag), Endless())
    good = ack(1, multiple=False)
    assert confirms.take(good + stream) == len(good)
    assert heard == [1]


def test_an_acknowledgement_has_the_bytes_of_pika(sockets: Any) -> None:
    ours, theirs = sockets
    channel = SimpleNamespace(channel_number=OURS, connection=over(Transport(ours)))
    Deliveries(channel, TAG, print).acknowledge(2**40)
    assert received(theirs) == ack(2**40, multiple=True)


# Heartbeats.


class Beating:
    """A connection with what pika uses to send and check heartbeats, and its timers."""

    def __init__(self, heartbeat_s: int) -> None:
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.bytes_received = self.bytes_sent = 0
        self.written = b""
        self._transport = self._sock = SimpleNamespace(
            get_write_buffer_size=lambda: 0, send=self._take
        )
        self._transport._sock = self._sock
        self._heartbeat_checker: Any = None
        if heartbeat_s:
            self._heartbeat_checker = pika.heartbeat.HeartbeatChecker(self, heartbeat_s)

    def _take(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def _adapter_call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        self.timers.append((delay, callback))
        return self.timers[-1]

    def _adapter_remove_timeout(self, timer: Any) -> None:
        self.timers.remove(timer)


def test_where_we_send_often_enough_pika_only_checks_that_something_comes() -> None:
    connection = Beating(10)
    assert [delay for delay, _ in connection.timers] == [5.0, 15]
    send = NativeWire().take_heartbeats(cast("pika.SelectConnection", connection), 5.0)
    assert [delay for delay, _ in connection.timers] == [15]
    assert send is not None
    send()
    assert connection.written == pika.frame.Heartbeat().marshal()
    connection._heartbeat_checker.stop()
    assert connection.timers == []


@pytest.mark.parametrize("heartbeat_s", [0, 4])
def test_a_broker_that_wants_more_heartbeats_or_none_is_left_to_pika(heartbeat_s: int) -> None:
    connection = Beating(heartbeat_s)
    before = list(connection.timers)
    assert NativeWire().take_heartbeats(cast("pika.SelectConnection", connection), 5.0) is None
    assert connection.timers == before
