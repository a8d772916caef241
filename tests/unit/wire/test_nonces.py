"""No record is ever encrypted with the key and the outer number of another, whatever happens.

Two records with the same key and nonce would give the authentication key away to whoever watches
(NIST SP 800-38D, appendix A). So each of these tests watches every encryption.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.publisher import PikaTopicPublisher
from miros_rabbitmq.amqp.sender import Sender
from miros_rabbitmq.amqp.sinks import DirectSink
from miros_rabbitmq.amqp.topology import Queue
from miros_rabbitmq.exceptions import BackPressure, PayloadRefused
from miros_rabbitmq.nets.settings import Settings
from miros_rabbitmq.nets.topic import Hooks, Reactors, TopicNetwork, TopicSpec
from miros_rabbitmq.urls import AmqpUrl
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, Kind, Purpose
from miros_rabbitmq.wire.keyring import RootKey
from miros_rabbitmq.wire.message import join
from miros_rabbitmq.wire.notice import announce_listener
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import Content, unpack
from miros_rabbitmq.wire.sealer import Record, Sealer, _Stream
from tests.helpers import end_child, scaled

from .witness import Witness, codes_of, interrupted, witness

__all__ = ["witness"]

KEY, OTHER_KEY = Fernet.generate_key(), Fernet.generate_key()
STEPS = codes_of(
    Sealer.seal,
    Sealer.commit,
    Sealer._encrypt,
    _Stream.line,
    _Stream._seal,
    _Stream._derive,
    RootKey.cipher,
)
NETWORK_STEPS = STEPS | codes_of(TopicNetwork.transmit)
MOST_STEPS = 2_000
"""More than all of these functions have."""


def sealer(codec: Codec | None = None) -> Sealer:
    return Sealer(codec or Codec(KEY), MESH, "chart")


def send(one: Sealer, routing_key: str = "key", purpose: Purpose = Purpose.EVENTS) -> Record:
    record = one.commit(one.seal(Kind.EVENT, b"body", routing_key, purpose))
    assert record is not None
    return record


def contents(records: list[Record], keys: list[bytes] | bytes = KEY) -> list[Content]:
    opener = Opener(Codec(keys), MESH, 1)
    return [
        unpack(opener.open(join(one.heading.prefix, [one.data]), one.heading.routing_key)[1][0])
        for one in records
    ]


def numbers(records: list[Record], keys: list[bytes] | bytes = KEY) -> list[int]:
    return [one.sequence for one in contents(records, keys)]


def network(name: str = "chart", **options: object) -> TopicNetwork:
    """A mesh without brokers, which takes what is transmitted all the same."""
    settings = Settings("user", "password", KEY, **options)  # type: ignore[arg-type]
    spec = TopicSpec(MESH, "key", "key", (KEY,), Queue(), lossy=False, has_notices=True)
    return TopicNetwork(spec, settings, name, Reactors.of(name), Hooks(DirectSink(name, print)))


class Sent:
    """Stands in for the brokers of a network, and keeps what they are to get."""

    is_full = False

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.address = "a broker"
        self.link = SimpleNamespace(blocked_reason="")

    @property
    def has_room(self) -> bool:
        return not self.is_full

    def wait_for_room(self, deadline_s: float) -> bool:
        return self.has_room

    def enqueue(self, record: Record) -> bool:
        self.records.append(record)
        return False

    def enqueue_over(self, record: Record) -> None:
        self.records.append(record)


def with_broker(one: TopicNetwork) -> Sent:
    sent = Sent()
    one._senders = {AmqpUrl("amqp://127.0.0.1").address: sent}  # type: ignore[dict-item]
    one._posted_to = (sent,)  # type: ignore[assignment]
    return sent


def test_events_of_many_threads(witness: Witness) -> None:
    one, each = sealer(), 2_000
    records: list[Record] = []

    def run(name: str) -> None:
        records.extend(send(one, name) for _ in range(each))

    threads = [threading.Thread(target=run, args=(f"key.{n % 2}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(60))
    witness.check(at_least=8 * each)
    for key in ("key.0", "key.1"):
        mine = [record for record in records if record.heading.routing_key == key]
        assert sorted(numbers(mine)) == list(range(1, 4 * each + 1))


def test_a_refused_payload_claims_nothing(witness: Witness) -> None:
    one = network()
    sent = with_broker(one)
    one.codec.max_bytes = 1_000
    for payload in (b"x" * 2_000, threading.Lock(), 1):
        with suppress(PayloadRefused):
            one.transmit(("SIGNAL", payload), 1)
    one.transmit(("SIGNAL", 2), 1)
    witness.check(at_least=2)
    assert numbers(sent.records) == [1, 2], "what was refused is not missing"


def test_back_pressure(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    one = network()
    sent = with_broker(one)
    one.transmit(("SIGNAL", 1), 1)
    sent.is_full = True
    with pytest.raises(BackPressure):
        one.transmit(("SIGNAL", 2), 0.01)
    sent.is_full = False
    one.transmit(("SIGNAL", 3), 1)
    witness.check(at_least=2)
    assert numbers(sent.records) == [1, 2]


def test_back_pressure_of_a_publisher_that_is_used_alone(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = PikaTopicPublisher(
        "amqp://127.0.0.1", "exchange", "key", codec=Codec(KEY), name="alone"
    )
    publisher.post_fifo(1)
    has_room = iter([True, False, True])
    monkeypatch.setattr(Sender, "wait_for_room", lambda *_: next(has_room))
    monkeypatch.setattr(Sender, "has_room", True)
    publisher.post_fifo(2)
    with pytest.raises(BackPressure):
        publisher.post_fifo(3)
    publisher.post_fifo(4)
    witness.check(at_least=3)


def test_notices_and_events_have_different_keys(witness: Witness) -> None:
    one = network()
    sent = with_broker(one)
    for _ in range(3):
        one.transmit(("SIGNAL", 1), 1)
        assert one._seal_notice(announce_listener(asks=True), "key") is not None
    witness.check(at_least=6)
    assert len(witness.keys) == 2
    assert numbers(sent.records) == [1, 2, 3], "notices take no numbers of events"


def test_every_start_has_another_key(witness: Witness) -> None:
    """A chart that starts again, a snoop that is enabled again, and publishers used alone."""
    codec = Codec(KEY)
    for _ in range(5):
        send(sealer(codec))
        one = network()
        with_broker(one)
        one.transmit(("SIGNAL", 1), 1)
        publisher = PikaTopicPublisher(
            "amqp://127.0.0.1", "exchange", "key", codec=codec, name="alone"
        )
        publisher.post_fifo("value")
    witness.check(at_least=15)
    assert len(witness.keys) == 15


def test_a_key_that_comes_back(witness: Witness) -> None:
    codec = Codec(KEY)
    one = sealer(codec)
    records = []
    for keys in ([KEY], [KEY, OTHER_KEY], [OTHER_KEY, KEY], [KEY, OTHER_KEY], [OTHER_KEY], [KEY]):
        codec.change_keys(keys)
        records += [send(one), send(one, "other.key"), send(one, purpose=Purpose.NOTICES)]
    witness.check(at_least=18)
    assert len(witness.keys) == 4, "two keys, each for events and notices"
    events = [one for one in records if one.heading.prefix[2] == Purpose.EVENTS]
    assert numbers(events, [KEY, OTHER_KEY]) == [n for n in range(1, 7) for _ in range(2)]


def test_keys_that_change_while_others_send(witness: Witness) -> None:
    codec = Codec(KEY)
    one = sealer(codec)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            send(one)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    changes = 0
    while changes < 300 or len(witness.uses) < 300:
        codec.change_keys([OTHER_KEY, KEY] if changes % 2 else [KEY, OTHER_KEY])
        changes += 1
    ended.set()
    for thread in threads:
        thread.join(scaled(30))
    witness.check(at_least=300)


def test_ctrl_c_at_any_step(witness: Witness) -> None:
    """What is interrupted may be missing, but no number is used for anything else."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    for step in range(MOST_STEPS):
        one = network()
        sent = with_broker(one)
        one.transmit(("SIGNAL", "before"), 1)
        one.codec.change_keys([OTHER_KEY, KEY])  # so that the steps of a new key are tried, too
        with interrupted(NETWORK_STEPS, step, interrupt) as called, suppress(KeyboardInterrupt):
            one.transmit(("SIGNAL", "interrupted"), 1)
        one.transmit(("SIGNAL", "after"), 1)
        got = numbers(sent.records, [KEY, OTHER_KEY])
        assert got == sorted(set(got))
        assert got in ([1, 2], [1, 2, 3], [1, 3]), "with the interrupted event, or a gap for it"
        if not called:
            break
    else:
        raise AssertionError(f"there are more than {MOST_STEPS} steps")
    assert step > 100
    witness.check(at_least=step)


def test_the_handler_of_a_signal_that_transmits_at_any_step(witness: Witness) -> None:
    for step in range(MOST_STEPS):
        one = network()
        sent = with_broker(one)

        def transmit(one: TopicNetwork = one) -> None:
            one.transmit(("SIGNAL", "handler"), 1)

        with interrupted(NETWORK_STEPS, step, transmit) as called:
            one.transmit(("SIGNAL", "interrupted"), 1)
        one.transmit(("SIGNAL", "after"), 1)
        assert numbers(sent.records) == list(range(1, 4 if called else 3)), (
            "nothing is missing, no number is there twice, and all are in their order"
        )
        if not called:
            break
    else:
        raise AssertionError(f"there are more than {MOST_STEPS} steps")
    assert step > 100
    witness.check(at_least=2 * step)


@pytest.mark.parametrize("posts", [False, True], ids=["Ctrl-C", "a handler that posts"])
def test_a_publisher_that_is_used_alone_is_interrupted_at_any_step(
    witness: Witness, posts: bool
) -> None:
    steps = STEPS | codes_of(PikaTopicPublisher.post_fifo)
    for step in range(MOST_STEPS):
        one = PikaTopicPublisher(
            "amqp://127.0.0.1", "exchange", "key", codec=Codec(KEY), name="alone"
        )

        def interrupt(one: PikaTopicPublisher = one) -> None:
            if not posts:
                raise KeyboardInterrupt
            one.post_fifo("handler")

        with interrupted(steps, step, interrupt) as called, suppress(KeyboardInterrupt):
            one.post_fifo("interrupted")
        one.post_fifo("after")
        opener = Opener(Codec(KEY), "exchange", 1)
        got = [
            unpack(opener.open(join(each.heading.prefix, [each.data]), "key").contents[0]).sequence
            for each in one._sender._outbox.waiting
        ]
        if posts and called:
            assert sorted(got) == [1, 2, 3]
        else:
            assert got in ([1, 2], [1], [2])
        if not called:
            break
    else:
        raise AssertionError(f"there are more than {MOST_STEPS} steps")
    assert step > 100
    witness.check(at_least=step)


def test_a_real_signal_in_a_storm(witness: Witness) -> None:
    """The same with the operating system's signals, as often as they come."""
    one = network()
    sent = with_broker(one)
    former = signal.signal(signal.SIGPROF, lambda *_: one.transmit(("SIGNAL", "handler"), 1))
    try:
        signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005)
        while len(witness.uses) < 3_000:
            one.transmit(("SIGNAL", "storm"), 1)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)
    witness.check(at_least=3_000)
    assert sorted(numbers(sent.records)) == list(range(1, len(sent.records) + 1))


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


def in_child(work: Callable[[], bytes]) -> bytes:
    """Do something in a forked child, and return what it returns."""
    ours, its = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(its, work())
            end_child(0)
        except BaseException:  # noqa: BLE001 - the parent must not go on twice
            end_child(1)
    os.close(its)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


@needs_fork
def test_a_child_is_another_start() -> None:
    one = sealer()
    send(one)
    epochs = [in_child(lambda: one.epoch) for _ in range(3)]
    prefixes = [in_child(lambda: send(one).heading.prefix) for _ in range(3)]
    epochs += [prefix[-len(one.epoch) :] for prefix in prefixes]
    assert len({one.epoch, *epochs}) == 7
    assert send(one).heading.prefix.endswith(one.epoch), "the parent goes on as before"


@needs_fork
def test_a_fork_at_any_step_sends_nothing_with_the_keys_of_the_parent() -> None:
    """The handler of a signal may fork in the middle of a record; the child gives that one up."""
    one = sealer()
    send(one)
    is_over = False
    for step in range(0, MOST_STEPS, 7):  # a child for each would take long
        children: list[int] = []
        ours, its = os.pipe()
        with interrupted(STEPS, step, lambda: children.append(os.fork())) as called:  # noqa: B023
            record = one.commit(one.seal(Kind.EVENT, b"body", "key"))
        if called and children[0] == 0:
            # Where the fork came last of all, the child has the parent's very record; where it
            # came first of all, a record of its own.
            os.write(its, b"" if record is None else record.heading.prefix + record.data)
            end_child(0)
        os.close(its)
        with os.fdopen(ours, "rb") as pipe:
            said = pipe.read()
        if not called:
            is_over = True
            break
        assert os.waitpid(children[0], 0)[1] == 0
        assert record is not None
        is_of_another_start = not said.startswith(record.heading.prefix)
        assert is_of_another_start or said == record.heading.prefix + record.data
    assert is_over


def test_a_child_whose_hooks_have_not_run_is_another_start_all_the_same(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C code may fork without them, and a fork may come in the middle of the constructor."""
    one = sealer()
    record = send(one)
    draft = one.seal(Kind.EVENT, b"body", "key")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert one.commit(draft) is None
    child_record = send(one)
    assert child_record.heading.prefix != record.heading.prefix
    assert numbers([child_record]) == [1]
    witness.check(at_least=3)


def test_a_copy_would_go_on_with_the_same_numbers() -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            duplicate(sealer())


# The last numbers, which a sender tells others.


def test_the_last_number_of_each_routing_key_is_that_of_its_last_event() -> None:
    one = sealer()
    assert one.last_numbers() == {}
    one.seal(Kind.EVENT, b"refused", "a.key")
    assert one.last_numbers() == {}, "no number was claimed"
    for key in ("a.key", "another.key", "a.key"):
        send(one, key)
        send(one, "a.notice", Purpose.NOTICES)
    assert one.last_numbers() == {"a.key": 2, "another.key": 1}
    one.disown()
    assert one.last_numbers() == {}, "of another start"
