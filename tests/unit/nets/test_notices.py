"""The notices of a node on a network, and how those of others decide about its haste."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq.amqp.sender import Sender
from miros_rabbitmq.nets.notices import Notices
from miros_rabbitmq.problems import DeliveryProblem, ProblemKind
from miros_rabbitmq.urls import Address
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, Purpose
from miros_rabbitmq.wire.message import join
from miros_rabbitmq.wire.notice import (
    LISTENER_KEY,
    Notice,
    Trouble,
    WrongClock,
    announce_broker,
    announce_listener,
    announced_pattern,
    tell_clock,
    tell_numbers,
    tell_trouble,
)
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import unpack
from miros_rabbitmq.wire.sealer import Sealer

BROKER = announce_broker(Address("127.0.0.2", 5672))
TX_KEY = "mesh.key"
ASKS, ANSWERS = announce_listener(asks=True, key=TX_KEY), announce_listener(asks=False)


class FakeSender:
    """Stands in for a sender, and calls back at once where a reactor would do so soon."""

    def __init__(self) -> None:
        self.link = self
        self.is_connected = True
        self.address = Address("127.0.0.2", 5672)
        self.patient = False
        self.wakes = 0
        self.told: list[tuple[str, bytes]] = []
        self.later: list[Callable[[], object]] = []
        self.delays_s: list[float] = []
        self.soon: list[tuple[float, Callable[[], object]]] = []

    def wake(self) -> None:
        self.wakes += 1

    def call_soon(self, callback: Callable[[], object]) -> None:
        callback()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> None:
        if delay_s >= 24.0:
            self.delays_s.append(delay_s)
            self.later.append(callback)
        else:
            self.soon.append((delay_s, callback))

    def publish_aside(self, body: bytes, routing_key: str, expires_s: float) -> None:
        assert expires_s == 30.0
        self.told.append((routing_key, body))


class FakePosts:
    """Stands in for the events of a network."""

    epoch = b"e" * 16

    def __init__(self, *senders: FakeSender) -> None:
        self.transmitted = 0
        self.senders = {
            Address("127.0.0.2", port): cast("Sender", sender)
            for port, sender in enumerate(senders, 5672)
        }
        self.numbers: dict[str, int] | None = {}
        self.spares: list[object] = []

    def is_posted_to(self, sender: Sender) -> bool:
        return sender not in self.spares

    def settled_numbers(self, _sender: Sender) -> dict[str, int] | None:
        return self.numbers


class Node:
    """The notices of a node, and what is around them."""

    def __init__(
        self,
        notice: Notice | None = None,
        place: object = None,
        rx_key: str = "",
        name: str = "this",
    ) -> None:
        place = object() if place is None else place
        codec = Codec(Fernet.generate_key())
        self._name = name
        self._sealer = Sealer(codec, MESH, name)
        self._opener = Opener(codec, MESH, most_records=1)
        self.is_forked = False
        self.own, self.other = FakeSender(), FakeSender()
        self.noticed: list[Notice] = []
        self.posts = FakePosts(self.own, self.other)
        self.problems: list[DeliveryProblem] = []
        self.notices = Notices(
            name,
            self._seal,
            TX_KEY,
            rx_key,
            lambda: place,
            30.0,
            self.posts,
            lambda: notice,
            lambda notice, _: self.noticed.append(notice),
            self.problems.append,
        )
        self.notices.own_sender(cast("Sender", self.own))
        self.answers: list[tuple[float, Callable[[], object]]] = []
        self.notices.use_timer(lambda delay_s, answer: self.answers.append((delay_s, answer)))

    def _seal(self, notice: Notice, routing_key: str) -> bytes | None:
        if self.is_forked:
            return None
        draft = self._sealer.seal(notice.kind, notice.body, routing_key, Purpose.NOTICES)
        record = self._sealer.commit(draft)
        assert record is not None
        return join(record.heading.prefix, [record.data])

    def connect(self, sender: FakeSender) -> None:
        self.notices.on_connected(cast("Sender", sender))

    def look(self, sender: FakeSender) -> None:
        self.notices.look(cast("Sender", sender))

    def said(self, sender: FakeSender) -> list[tuple[str, Notice]]:
        """The notices that a broker got, and their routing keys."""
        said = []
        for key, message in sender.told:
            header, (plain,) = self._opener.open(message, key)
            assert header.purpose == Purpose.NOTICES
            content = unpack(plain)
            assert content.sender == self._name
            said.append((key, Notice(content.kind, content.body)))
        return said


def test_the_brokers_of_others_get_the_owners_notice() -> None:
    node = Node(BROKER)
    node.connect(node.other)
    assert node.said(node.other) == [(TX_KEY, BROKER)]
    assert node.said(node.own) == []


def test_the_notice_is_repeated_while_a_broker_is_connected() -> None:
    node = Node(BROKER)
    node.connect(node.other)
    for _ in range(3):
        node.other.later.pop()()
    assert len(node.other.told) == 4
    assert len(node.other.later) == 1, "one timer, however often"
    node.connect(node.other)
    assert len(node.other.told) == 5
    assert len(node.other.later) == 1, "also if it was lost and connected again meanwhile"
    node.other.is_connected = False
    node.other.later.pop()()
    assert len(node.other.told) == 5
    assert not node.other.later, "it gets a notice when it is connected again"


def test_a_node_without_a_notice_sends_none() -> None:
    node = Node(None)
    node.connect(node.other)
    assert node.said(node.other) == []


def test_neighbours_get_no_notice_before_their_answers_can_be_heard() -> None:
    node = Node()
    node.connect(node.own)
    node.notices.on_hearing(is_hearing=False)
    assert node.own.told == []
    node.notices.on_hearing(is_hearing=True)
    assert node.said(node.own) == [(LISTENER_KEY, ASKS)]
    node.notices.on_hearing(is_hearing=True)
    assert len(node.own.told) == 1


def test_a_node_that_gets_no_answer_makes_no_haste_until_a_neighbour_is_heard() -> None:
    node = Node()
    own = node.own
    node.notices.on_hearing(is_hearing=True)
    assert not own.patient, "it may have neighbours"
    ((_, settle),) = own.soon
    settle()
    assert own.patient
    for announcement in (ANSWERS, ASKS):
        node.notices.take(announcement)
        assert (own.patient, own.wakes) == (False, 1)
    settle()
    assert not own.patient
    assert not node.noticed


def test_a_question_of_a_neighbour_is_answered_unless_another_does() -> None:
    node = Node()
    node.notices.on_hearing(is_hearing=True)
    node.own.told.clear()
    node.notices.take(ASKS)
    node.notices.take(ASKS)
    ((_, answer),) = node.answers
    assert node.own.told == []
    answer()
    assert node.said(node.own) == [(LISTENER_KEY, ANSWERS)]
    node.notices.take(ASKS)
    node.notices.take(ANSWERS)
    node.answers[1][1]()
    assert len(node.own.told) == 1


def test_neighbours_are_told_again_only_if_no_other_has_told_them_lately(
    now_s: list[float],
) -> None:
    node = Node()
    node.connect(node.own)
    node.notices.on_hearing(is_hearing=True)
    node.own.told.clear()
    for _ in range(3):
        now_s[0] += 20
        node.notices.take(ANSWERS)
        now_s[0] += 10
        node.own.later.pop()()
    assert node.own.told == []
    now_s[0] += 30
    node.own.later.pop()()
    assert node.said(node.own) == [(LISTENER_KEY, ANSWERS)]
    now_s[0] += 30
    node.own.later.pop()()
    assert node.said(node.own)[1:] == [(LISTENER_KEY, ASKS)], "before the last one is forgotten"


@pytest.fixture
def crowd() -> Iterator[list[Node]]:
    """Charts of one process; those that a test puts here cease to listen after it."""
    crowd: list[Node] = []
    yield crowd
    for node in crowd:
        node.notices.on_hearing(is_hearing=False)


def test_charts_of_one_process_know_of_each_other_without_notices(crowd: list[Node]) -> None:
    elder, stranger = Node(place="here"), Node(place="elsewhere")
    crowd += [elder, stranger]
    for node in crowd:
        node.notices.on_hearing(is_hearing=True)
        node.own.soon.pop()[1]()
        assert node.own.patient
    newcomer = Node(place="here", name="newcomer")
    newcomer.notices.on_hearing(is_hearing=True)
    assert (elder.own.patient, elder.own.wakes) == (False, 1)
    assert stranger.own.patient
    assert (newcomer.own.told, newcomer.own.soon) == ([], []), "the elder has spoken for it"
    assert elder.notices.knows_others
    assert newcomer.notices.knows_others
    assert elder.notices.neighbours_listen()
    newcomer.notices.on_hearing(is_hearing=False)
    assert not elder.notices.knows_others
    assert not elder.notices.neighbours_listen()


def test_of_many_charts_of_a_process_one_for_each_pattern_announces_itself(
    crowd: list[Node],
) -> None:
    keys = ["one.key"] * 50 + [f"key.{number}" for number in range(100)] + ["key.7"] * 50
    crowd += [Node(place="crowd", rx_key=key, name=f"{at}") for at, key in enumerate(keys)]
    for node in crowd:
        node.notices.on_hearing(is_hearing=True)
    first, *others = crowd
    assert first.said(first.own) == [
        (LISTENER_KEY, announce_listener(asks=True, pattern="one.key", key=TX_KEY))
    ]
    timers = [timer for node in others for timer in node.own.soon]
    assert 5 < max(delay_s for delay_s, _ in timers) <= 20
    for _, announce in timers:
        announce()
    told = [node.said(node.own) for node in others]
    assert sum(map(len, told)) == 100
    patterns = {announced_pattern(notice) for ((_, notice),) in filter(None, told)}
    assert patterns == {f"key.{number}" for number in range(100)}


def test_another_is_announced_when_the_one_that_spoke_for_it_has_gone_first(
    crowd: list[Node],
) -> None:
    crowd += [Node(place="here", rx_key=key, name=key) for key in ("a.key", "b.key")]
    crowd.append(Node(place="here", rx_key="b.key", name="another"))
    for node in crowd:
        node.notices.on_hearing(is_hearing=True)
    (_, first), (_, second) = (node.own.soon.pop() for node in crowd[1:])
    crowd[1].notices.on_hearing(is_hearing=False)
    first()
    second()
    assert [len(node.own.told) for node in crowd] == [1, 0, 1]


def test_two_charts_of_a_process_with_one_name_hear_of_each_other(crowd: list[Node]) -> None:
    crowd += [Node(place="here"), Node(place="here")]
    for node in crowd:
        node.notices.on_hearing(is_hearing=True)
    crowd[1].own.soon.pop()[1]()
    assert crowd[1].said(crowd[1].own) == [(LISTENER_KEY, ANSWERS)]


def test_charts_that_hear_each_other_again_announce_themselves_again(crowd: list[Node]) -> None:
    """The broker was started anew, and maybe all others at it."""
    crowd += [Node(place="here", name=name) for name in ("one", "two")]
    for times in (1, 2):
        for node in crowd:
            node.notices.on_hearing(is_hearing=True)
        assert [len(node.own.told) for node in crowd] == [times, 0]
        for node in crowd:
            node.notices.on_hearing(is_hearing=False)


def test_charts_of_a_process_take_turns_to_announce_themselves(
    crowd: list[Node], now_s: list[float]
) -> None:
    """A silent chart of another process then learns of one that has its name."""
    crowd += [Node(place="here", name=f"{number}") for number in range(5)]
    due: list[tuple[float, int]] = []
    for at, node in enumerate(crowd):
        node.notices.on_hearing(is_hearing=True)
        node.connect(node.own)
        due.append((now_s[0] + node.own.delays_s[-1], at))
    began_s = now_s[0]
    while now_s[0] - began_s < 3000:
        due.sort()
        now_s[0], at = due.pop(0)
        node = crowd[at]
        node.own.later.pop()()
        due.append((now_s[0] + node.own.delays_s[-1], at))
        assert 24 <= node.own.delays_s[-1] <= 30
    told = [len(node.own.told) for node in crowd]
    assert min(told) > 1
    assert 3000 / 31 < sum(told) < 3000 / 25, "one in announce_s, however many they are"


def test_a_node_asks_now_and_then_who_listens_to_what_it_sends(now_s: list[float]) -> None:
    node = Node()
    node.notices.ask_for_listener()
    assert node.own.told == []
    node.notices.on_hearing(is_hearing=True)
    node.own.told.clear()
    for _ in range(10):
        node.notices.ask_for_listener()
    assert node.said(node.own) == [(LISTENER_KEY, ASKS)]
    now_s[0] += 3
    node.notices.ask_for_listener()
    assert len(node.own.told) == 2


def test_the_notices_of_other_nodes_are_handed_on() -> None:
    node = Node()
    node.notices.take(BROKER)
    assert node.noticed == [BROKER]
    assert node.own.wakes == 0


def test_a_child_that_was_forked_meanwhile_sends_no_notice() -> None:
    node = Node(BROKER)
    node.is_forked = True
    node.connect(node.other)
    node.notices.on_hearing(is_hearing=True)
    assert node.other.told == node.own.told == []


def test_a_kind_of_notice_that_is_not_known_is_ignored_here_and_handed_on() -> None:
    """A newer version may send it; what the owner does with it is no matter of neighbours."""
    node = Node()
    node.notices.on_hearing(is_hearing=True)
    node.own.told.clear()
    newer = Notice(99, b"\1")
    node.notices.take(newer)
    assert node.noticed == [newer]
    assert (node.own.wakes, node.own.told) == (0, [])


# The last numbers.


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_the_notice_goes_along_with_events_once_a_second_to_the_brokers_that_get_them(
    now_s: list[float],
) -> None:
    node = Node(BROKER)
    node.posts.numbers = None
    spare = FakeSender()
    node.posts.spares = [spare]
    for sender in (node.own, node.other, spare):
        node.connect(sender)
    announced = [(TX_KEY, BROKER)]
    assert node.said(node.other) == node.said(spare) == announced
    for look in range(8):
        now_s[0] += 0.5
        node.posts.transmitted += look < 6
        for sender in (node.own, node.other, spare):
            node.look(sender)
    assert node.said(node.other) == 4 * announced, "by the connection, and after 1, 2 and 3 s"
    assert node.said(spare) == announced
    assert node.said(node.own) == []


def test_nothing_goes_along_with_events_of_a_node_that_has_nothing_to_tell(
    now_s: list[float],
) -> None:
    node = Node()
    node.posts.numbers = None
    node.connect(node.other)
    now_s[0] += 5
    node.posts.transmitted = 7
    node.look(node.other)
    assert node.said(node.other) == []


def test_a_broker_is_told_the_last_numbers_once_when_the_node_has_fallen_silent(
    now_s: list[float],
) -> None:
    node = Node()
    node.connect(node.other)
    node.look(node.other)
    assert node.said(node.other) == [], "nothing was sent yet"
    for sent in (10, 20):
        node.posts.transmitted = sent
        node.posts.numbers = {"a.key": sent}
        node.look(node.other)
        now_s[0] += 1
    told = (LISTENER_KEY, tell_numbers([("a.key", 20)]))
    # It was asked for by the connection; and then it was silent for a second.
    assert node.said(node.other) == [(LISTENER_KEY, tell_numbers([("a.key", 10)]))]
    for _ in range(10):
        node.look(node.other)
        now_s[0] += 1
    assert node.said(node.other)[1:] == [told]


def test_what_a_broker_has_not_settled_is_not_told_until_it_has(now_s: list[float]) -> None:
    node = Node()
    node.connect(node.other)
    node.posts.transmitted, node.posts.numbers = 5, None
    for _ in range(10):
        node.look(node.other)
        now_s[0] += 1
    assert node.said(node.other) == []
    node.posts.numbers = {"a.key": 5}
    node.look(node.other)
    assert node.said(node.other) == [(LISTENER_KEY, tell_numbers([("a.key", 5)]))]


def test_with_each_announcement_the_last_numbers_are_told_again(now_s: list[float]) -> None:
    node = Node()
    node.posts.transmitted, node.posts.numbers = 5, {"a.key": 5}
    node.connect(node.other)
    for times in (1, 2, 3):
        for _ in range(5):
            node.look(node.other)
            now_s[0] += 1
        assert len(node.said(node.other)) == times
        node.other.later.pop()()


def test_the_own_broker_is_told_only_where_there_are_neighbours(now_s: list[float]) -> None:
    node = Node()
    node.posts.transmitted, node.posts.numbers = 5, {"a.key": 5}
    node.connect(node.own)
    node.look(node.own)
    assert node.said(node.own) == []
    node.notices.take(ANSWERS)
    node.own.later.pop()()
    node.look(node.own)
    assert node.said(node.own) == [(LISTENER_KEY, tell_numbers([("a.key", 5)]))]


def test_the_numbers_of_others_are_for_who_counts_their_events() -> None:
    node = Node()
    node.notices.take(tell_numbers([("a.key", 5)]))
    assert node.noticed == []


# Clocks.


def test_who_is_rejected_for_its_clock_is_told_at_all_brokers_now_and_then(
    now_s: list[float],
) -> None:
    node = Node()
    wrong = WrongClock(b"w" * 16, 312_000)
    for _ in range(100):
        node.notices.on_wrong_clock(*wrong)
    for sender in (node.own, node.other):
        assert node.said(sender) == [(LISTENER_KEY, tell_clock(wrong))]
    node.notices.on_wrong_clock(b"v" * 16, -5)
    assert len(node.other.told) == 2
    now_s[0] += 30
    node.notices.on_wrong_clock(*wrong)
    assert len(node.other.told) == 3


def test_a_broker_that_is_connected_soon_after_is_told_then(now_s: list[float]) -> None:
    node = Node()
    node.other.is_connected = False
    wrong = WrongClock(b"w" * 16, 312_000)
    node.notices.on_wrong_clock(*wrong)
    assert node.said(node.other) == []
    node.other.is_connected = True
    now_s[0] += 29
    node.connect(node.other)
    assert node.said(node.other) == [(LISTENER_KEY, tell_clock(wrong))]
    now_s[0] += 1
    node.connect(node.other)
    assert len(node.other.told) == 1


def test_made_up_epochs_make_a_node_tell_few(now_s: list[float]) -> None:
    node = Node()
    for number in range(1_000):
        node.notices.on_wrong_clock(number.to_bytes(16, "big"), 9)
    assert len(node.other.told) == 16
    now_s[0] += 60
    node.notices.on_wrong_clock(b"w" * 16, 312_000)
    assert len(node.other.told) == 17


@pytest.mark.parametrize(
    ("ahead_ms", "text"),
    [
        (312_400, "its clock is 312 s ahead of theirs: set the clocks, or raise max_age_s"),
        (-7_200_000, "its clock is 7,200 s behind theirs, or its events were under way"),
    ],
)
def test_a_node_that_is_told_of_its_clock_says_so_once_a_minute_and_takes_no_other_epochs(
    ahead_ms: int, text: str, now_s: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    node.notices.take(tell_clock(WrongClock(b"w" * 16, ahead_ms)))
    node.notices.take(Notice(4, b"nonsense"))
    assert not caplog.messages
    for _ in range(3):
        node.notices.take(tell_clock(WrongClock(node.posts.epoch, ahead_ms)))
    (line,) = caplog.messages
    assert text in line
    assert [(one.kind, one.subject, one.text) for one in node.problems] == [
        (ProblemKind.CLOCK, "this", line)
    ]
    now_s[0] += 60
    node.notices.take(tell_clock(WrongClock(node.posts.epoch, ahead_ms)))
    assert len(caplog.messages) == 2
    assert node.noticed == []


# A stuck chart.


def test_the_trouble_of_a_node_goes_to_all_brokers() -> None:
    node = Node()
    trouble = tell_trouble(Trouble("this", "waiting", 30, 12))
    node.notices.tell_all(trouble)
    for sender in (node.own, node.other):
        assert node.said(sender) == [(LISTENER_KEY, trouble)]
    node.other.is_connected = False
    node.notices.tell_all(trouble)
    assert len(node.other.told) == 1


def test_the_trouble_of_others_is_said_once_a_minute_and_handed_on(
    now_s: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    notices = [tell_trouble(Trouble(chart, "waiting", 30, 1_200)) for chart in ("a", "b", "a")]
    for notice in notices:
        node.notices.take(notice)
    assert node.noticed == notices
    assert caplog.messages == [
        f"this: another node says of {chart!r}: it has been in a handler of the state 'waiting' "
        "for 30 s; 1,200 events wait for it"
        for chart in ("a", "b")
    ]
    now_s[0] += 60
    node.notices.take(notices[0])
    assert len(caplog.messages) == 3
    for number in range(1_000):
        node.notices.take(tell_trouble(Trouble(f"made up {number}", "", 1, 1)))
    assert len(caplog.messages) < 70
    for number in range(1_000):
        node.notices.take(tell_trouble(Trouble(f"made up {number}", "", 0, 0)))
    assert len(caplog.messages) < 140


def test_a_chart_may_be_stuck_and_have_a_full_queue_and_the_end_of_both_is_said(
    now_s: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    end = tell_trouble(Trouble("a", "", 0, 0))
    node.notices.take(end)
    assert not caplog.messages, "nothing had begun"
    for trouble in (Trouble("a", "", 5, 12), Trouble("a", "", 0, 3_000)):
        node.notices.take(tell_trouble(trouble))
    node.notices.take(end)
    node.notices.take(end)
    assert caplog.messages == [
        "this: another node says of 'a': it has taken no events for 5 s; 12 wait for it",
        "this: another node says of 'a': its queue is nearly full; 3,000 messages wait for it",
        "this: another node says of 'a': it takes events again",
    ]
    assert [(one.kind, one.subject, one.is_over) for one in node.problems] == [
        (ProblemKind.STUCK_CHART, "a", False),
        (ProblemKind.QUEUE, "a", False),
        (ProblemKind.STUCK_CHART, "a", True),
        (ProblemKind.QUEUE, "a", True),
    ]
