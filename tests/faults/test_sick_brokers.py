"""One sick broker, link or chart costs the others nothing, and what it loses itself is counted.

Of three brokers one gets sick under traffic. From when the sender has noticed, events to the others
are as quick as in the same run without it; before, there is one wait at most. ``transmit`` never
raises for it. In the end `delivered + counted = transmitted` at the receiver there, and the others
have got everything, once and in order.
"""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest

from miros_rabbitmq import DropReason, Limits, LocalBroker
from miros_rabbitmq.delivery.slowness import Condition

from ..helpers import scaled, wait_until
from .fleet import FLAT_OUT, QUICK, SENDER, Fleet, Sample, Stream, fleet
from .proxy import FaultProxy
from .sender import sender_process
from .sickness import Alarm, Frozen, Impostor, RejectPublish, Sickness, ThinLink
from .thin_link import Bucket, Shape

Trio = tuple[LocalBroker, LocalBroker, LocalBroker]

SICK = 2
"""The number of the broker that gets sick; the sender's own is 0."""

SAMPLES = 2
"""In a row."""

TRICKLE = 5
"""Events a second, of which a backlog holds hundreds of seconds."""

FLOOR_S = 0.05
"""Below this, a latency says more of the machine than of us."""

BUSY_FLOOR_S = 0.8
"""The same in ``make test``, in which three lanes of tests share the machine: whoever waits for a
sick broker waits for seconds."""

USUAL = Limits(backlog_events=5_000)
"""The defaults, but for a backlog that is full a little sooner."""

LIMITS = {10.0: QUICK, 0.0: replace(QUICK, backlog_events=4_000)}
"""By the time that ``transmit`` may wait. Without one, a full backlog is refused at once: it has to
hold what comes until the broker is found sick, however late a busy machine looks."""

REAL = [pytest.mark.slow, pytest.mark.timeout(300)]


def isolates(
    system: Fleet,
    sickness: Sickness,
    rate: float,
    *,
    sick: int = SICK,
    seconds: float = 0.7,
    turns: int = 1,
    confirms: bool = True,
) -> None:
    """Let a broker get sick and heal, in turns, and check what holds for all others meanwhile.

    Args:
        system: it runs.
        sickness: of the broker.
        rate: events a second.
        sick: the broker.
        seconds: the length of each sample.
        turns: how often it gets sick.
        confirms: whether what it takes it also confirms, so that nothing is both delivered and
            counted as dropped.
    """
    healthy = [number for number in range(len(system.brokers)) if number != sick]
    limits = system.limits
    without: list[Sample] = []
    beside: list[Sample] = []
    stream = system.stream(rate)
    with stream.running():
        wait_until(lambda: all(system.account(one).delivered > 20 for one in healthy), 20)
        without += [system.sample(stream, healthy, seconds) for _ in range(SAMPLES)]
        for _ in range(turns):
            sickness.begin()
            try:
                began_s = time.perf_counter()
                if sickness.conditions:
                    wait_until(
                        lambda: system.conditions()[sick] in sickness.conditions,
                        limits.slow_after_s + limits.absent_after_s + 10,
                        lambda: f"found sick; {system.describe()}",
                    )
                else:
                    time.sleep(limits.slow_after_s)
                noticed_s = time.perf_counter()
                wait_s = stream.slowest_s(began_s, noticed_s)
                print(f"noticed after {noticed_s - began_s:.2f} s; longest wait {wait_s:.2f} s")
                assert wait_s < limits.slow_after_s + scaled(6)
                if sickness.conditions and rate != TRICKLE:
                    # From then on each event costs an old one there.
                    dropped = system.dropped(sick)
                    wait_until(partial(drops_more, system, sick, dropped), 60, system.describe)
                # Those whose transmit began before are late: they are of the one wait.
                time.sleep(0.2)
                beside += [system.sample(stream, healthy, seconds) for _ in range(SAMPLES)]
            finally:
                sickness.end()
            wait_until(
                lambda: system.conditions()[sick] is Condition.KEEPING_UP,
                limits.slow_after_s + limits.absent_after_s + 30,
                lambda: f"healed; {system.describe()}",
            )
            without += [system.sample(stream, healthy, seconds) for _ in range(SAMPLES)]
    show(without, beside)
    assert stream.refused == 0, system.describe()
    check_books(system, sick, confirms=confirms)
    if sickness.conditions:
        check_lines(system, sick, turns)
    check_latency(without, beside, FLOOR_S if limits is USUAL else BUSY_FLOOR_S)


def drops_more(system: Fleet, sick: int, than: int) -> bool:
    """Tell whether the backlog of the sick one is full."""
    return system.dropped(sick) > than


def check_latency(
    without: Sequence[Sample], beside: Sequence[Sample], floor_s: float = BUSY_FLOOR_S
) -> None:
    """As quick as without, by the median of the samples: single ones show the machine's work."""
    # Not the median of those without: what the machine does in the worst of them, it does in any.
    usual_s = max(one.p99_s for one in without)
    assert statistics.median(one.p99_s for one in beside) < max(2 * usual_s, scaled(floor_s))


def show(without: Sequence[Sample], beside: Sequence[Sample]) -> None:
    """Print what was measured."""
    for kind, samples in (("without", without), ("beside", beside)):
        for one in samples:
            print(f"{kind:8}{one}")


def check_books(system: Fleet, sick: int, *, confirms: bool = True) -> None:
    """The sick one's losses are counted, and the others have none."""
    accounts = system.close_books()
    for number, account in enumerate(accounts):
        counted = system.dropped(number)
        print(f"at{number}: {account}; counted {counted:,}")
        assert not account.duplicated, system.describe()
        assert not account.reordered, system.describe()
        if number == sick:
            assert account.delivered + counted >= account.transmitted, system.describe()
            assert account.lost <= counted
            if confirms:
                assert account.delivered + counted == account.transmitted, system.describe()
            system.wait_for_gaps(sick)
        else:
            assert account.is_clean, system.describe()
            assert counted == 0
    assert not system.lines.errors


def check_lines(system: Fleet, sick: int, turns: int) -> None:
    """One warning when it began, and one when it ended."""
    lines = system.said_of(sick, "")
    begins = ends = meanwhile = 0
    is_sick = False
    for line in lines:
        if any(text in line for text in BEGINS.values()):
            begins, is_sick = begins + 1, True
        elif is_sick and any(text in line for text in ENDS):
            ends, is_sick = ends + 1, False
        elif is_sick:
            meanwhile += 1
    assert (begins, ends) == (turns, turns), "\n".join(lines)
    # What was dropped, and what the connection says.
    assert meanwhile <= 5 * turns, "\n".join(lines)


BEGINS = {
    Condition.SLOW: "is slower than the others",
    Condition.STALLED: "has confirmed nothing for",
}
"""What the log says when a condition begins."""

ENDS = ("keeps up again", "takes events again")


# Thin links.


@pytest.mark.parametrize("timeout_s", [10.0, 0.0], ids=["waiting", "not waiting"])
def test_a_thin_link_is_not_felt_by_the_others(trio: Trio, timeout_s: float) -> None:
    with fleet(
        trio, relayed=[SICK], limits=LIMITS[timeout_s], transmit_timeout=timeout_s
    ) as system:
        isolates(system, ThinLink(system.proxies[SICK], 32_000), 1_000)


def test_a_thin_link_that_is_wide_enough_is_not_noticed(trio: Trio) -> None:
    with fleet(trio, relayed=[SICK]) as system:
        isolates(system, ThinLink(system.proxies[SICK], 32_000, frozenset()), TRICKLE)
        assert system.dropped(SICK) == 0
        assert not system.said_of(SICK, BEGINS[Condition.SLOW])


@pytest.mark.parametrize("bytes_a_second", [2_000, 32_000])
@pytest.mark.parametrize("rate", [TRICKLE, 1_000, FLAT_OUT], ids=["trickle", "1,000", "flat out"])
@pytest.mark.parametrize("timeout_s", [10.0, 0.0], ids=["waiting", "not waiting"])
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_thin_link_is_not_felt_by_the_others_at_the_usual_limits(
    trio: Trio, bytes_a_second: int, rate: float, timeout_s: float
) -> None:
    with fleet(trio, relayed=[SICK], limits=USUAL, transmit_timeout=timeout_s) as system:
        link = ThinLink(system.proxies[SICK], bytes_a_second)
        if rate == TRICKLE:
            link.conditions = frozenset()  # it carries that
        if rate == FLAT_OUT and timeout_s == 0:
            pytest.skip("whoever sends flat out and does not wait is refused, and rightly")
        isolates(system, link, rate, seconds=2, turns=2)


# Brokers that confirm nothing.


@pytest.mark.parametrize("timeout_s", [10.0, 0.0], ids=["waiting", "not waiting"])
def test_an_alarm_at_one_broker_is_not_felt_by_the_others(trio: Trio, timeout_s: float) -> None:
    with fleet(trio, limits=LIMITS[timeout_s], transmit_timeout=timeout_s) as system:
        isolates(system, Alarm(trio[SICK]), 1_000)


def test_an_alarm_at_the_own_broker_is_not_felt_by_the_others(trio: Trio) -> None:
    with fleet(trio) as system:
        isolates(system, Alarm(trio[0]), 1_000, sick=0)


def test_an_alarm_at_one_of_two_brokers_is_not_felt_by_the_other(trio: Trio) -> None:
    with fleet(trio[:2]) as system:
        isolates(system, Alarm(trio[1]), 1_000, sick=1)


@pytest.mark.parametrize("rate", [TRICKLE, 1_000, FLAT_OUT], ids=["trickle", "1,000", "flat out"])
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_alarm_is_not_felt_by_the_others_at_the_usual_limits(trio: Trio, rate: float) -> None:
    with fleet(trio, limits=USUAL) as system:
        isolates(system, Alarm(trio[SICK]), rate, seconds=2, turns=2)


def test_an_impostor_that_confirms_nothing_is_not_felt_by_the_others(trio: Trio) -> None:
    with fleet(trio, relayed=[SICK]) as system:
        isolates(system, Impostor(system.proxies[SICK]), 1_000, confirms=False)


def test_a_frozen_broker_is_not_felt_by_the_others(trio: Trio) -> None:
    with fleet(trio) as system:
        isolates(system, Frozen(trio[SICK]), 1_000)


# Refusals.


@pytest.fixture(scope="module")
def narrow_broker(fragile_brokers: tuple[LocalBroker, LocalBroker]) -> Iterator[LocalBroker]:
    """A broker that closes the channel of whoever sends it more than 64 KiB at once."""
    config = {"max_message_size": "65536"}
    with LocalBroker("127.0.0.46", password=fragile_brokers[0].password, config=config) as broker:
        yield broker


@pytest.mark.parametrize("number", [2, 3], ids=["of two", "of three"])
def test_an_event_that_one_broker_refuses_stands_before_no_other(
    trio: Trio, narrow_broker: LocalBroker, number: int
) -> None:
    sick = number - 1
    with fleet((*trio[:sick], narrow_broker)) as system:
        stream = system.stream(1_000)
        for count in range(300):
            stream.send(b"x" * 150_000 if count in (50, 51, 200) else None)
        assert stream.refused == 0
        assert stream.slowest_s(0, time.perf_counter()) < scaled(6)
        accounts = system.close_books(timeout=20)
        for one in range(sick):
            assert accounts[one].is_clean, system.describe()
            assert system.dropped(one) == 0
        assert accounts[sick].delivered == 297, system.describe()
        assert not accounts[sick].reordered
        assert system.publisher(sick).drops[DropReason.REFUSED] == 3, system.describe()
        assert system.dropped(sick) == 3


@pytest.mark.parametrize("number", [2, 3], ids=["of two", "of three"])
def test_a_batch_that_one_broker_refuses_arrives_in_parts(
    trio: Trio, narrow_broker: LocalBroker, number: int
) -> None:
    sick = number - 1
    with fleet((*trio[:sick], narrow_broker), limits=Limits()) as system:
        stream = system.stream(FLAT_OUT, 400)
        for _ in range(5_000):
            stream.send()
        assert stream.refused == 0
        for account in system.close_books(timeout=20):
            assert account.is_clean, system.describe()
        assert all(system.dropped(one) == 0 for one in range(number)), system.describe()


def test_a_queue_that_rejects_is_not_felt_by_the_others_at_that_broker(trio: Trio) -> None:
    """Nor by receivers at others; what the broker nacks has come all the same."""
    with fleet(trio, limits=Limits()) as system:
        stream = system.stream(200)
        everyone = range(3)
        rejects = RejectPublish(trio[SICK])
        with stream.running():
            wait_until(lambda: all(system.account(one).delivered > 20 for one in everyone), 20)
            without = [system.sample(stream, everyone, 0.7) for _ in range(3)]
            rejects.begin()
            try:
                # The first messages are tried again, over three seconds.
                wait_until(lambda: system.dropped(SICK) > 0, 20, system.describe)
                beside = [system.sample(stream, everyone, 0.7) for _ in range(3)]
            finally:
                rejects.end()
        show(without, beside)
        assert stream.refused == 0
        for account in system.close_books(timeout=90):
            assert account.is_clean, system.describe()
        check_latency(without, beside)


# Charts and queues.


def test_a_stuck_chart_is_not_felt_by_the_others_and_loses_nothing(trio: Trio) -> None:
    with fleet(trio) as system:
        stream = system.stream(1_000)
        with stream.running():
            wait_until(lambda: system.account(1).delivered > 20, 20)
            without = [system.sample(stream, [0, 1], 0.7) for _ in range(3)]
            system.heard[SICK].gate.clear()
            time.sleep(1)
            beside = [system.sample(stream, [0, 1], 0.7) for _ in range(3)]
            system.heard[SICK].gate.set()
        show(without, beside)
        assert stream.refused == 0
        check_latency(without, beside)
        for account in system.close_books():
            assert account.is_clean, system.describe()
        assert system.conditions() == [Condition.KEEPING_UP] * 3


def test_a_full_queue_loses_its_oldest_which_its_receiver_counts(trio: Trio) -> None:
    limits = Limits(queue_bytes=1_000_000, prefetch_messages=4)
    with fleet(trio, limits=limits) as system:
        stream = system.stream(2_000, 400)
        system.heard[SICK].gate.clear()
        with stream.running():
            wait_until(lambda: system.ledger.accepted(SENDER) > 5_000, 30)
        assert stream.refused == 0
        assert system.sender.nets.flush(scaled(25))
        system.wait_for_delivery([0, 1])
        system.heard[SICK].gate.set()
        stream.send()  # a gap shows by what comes after it
        system.wait_for_delivery([0, 1, SICK])
        for number in range(3):
            account = system.account(number)
            assert not account.duplicated
            assert not account.reordered
            assert system.dropped(number) == 0
        assert system.account(SICK).lost > 0, "the test is to fill the queue"
        system.wait_for_gaps(SICK)
        assert system.account(0).is_clean
        assert system.account(1).is_clean


def test_several_addresses_of_one_broker_carry_each_event_once(trio: Trio) -> None:
    """The others are spare, and somebody is told."""
    with (
        FaultProxy("127.0.0.47", trio[1].address) as spare,
        FaultProxy("127.0.0.48", trio[1].address) as other,
        fleet(trio[:2], more_addresses=[spare.address, other.address]) as system,
    ):
        stream = system.stream(500)
        with stream.running():
            wait_until(lambda: system.account(1).delivered > 20, 20)
            time.sleep(2)
        for account in system.close_books():
            assert account.is_clean, system.describe()
        mesh = system.receivers[1].nets.stats().mesh
        assert mesh.duplicates < 0.2 * mesh.received, "each event crosses several times"
        assert [one for one in system.lines.texts if str(spare.address) in one], "nobody was told"


def test_a_broker_of_which_one_address_is_gone_loses_nothing(trio: Trio) -> None:
    with fleet(trio[:2], relayed=[1], more_addresses=[trio[1].address]) as system:
        stream = system.stream(300)
        proxy = system.proxies[1]

        def cut_off() -> None:
            proxy.refuse()
            time.sleep(2)
            print(system.describe())
            proxy.heal()

        during(stream, cut_off, 2)
        for account in system.close_books():
            assert account.is_clean, system.describe()


# Healthy systems.


def loses_nothing(system: Fleet, stream: Stream) -> None:
    """Check that every event has come to every receiver, and that nothing was dropped."""
    for account in system.close_books(timeout=120):
        print(account)
        assert account.is_clean, system.describe()
    assert [system.dropped(one) for one in range(len(system.brokers))] == [0] * len(system.brokers)
    assert stream.refused == 0
    assert not system.lines.errors


def during(stream: Stream, happens: Callable[[], None], after_s: float = 1.0) -> None:
    """Let something happen while the stream runs."""
    with stream.running():
        time.sleep(1)
        happens()
        time.sleep(after_s)


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=REAL)])
def test_a_flood_into_a_slow_chart_loses_nothing(trio: Trio, count: int) -> None:
    with fleet(trio, limits=QUICK if count < 10_000 else Limits()) as system:
        system.heard[1].work_s = 0.0003
        stream = system.stream(FLAT_OUT)
        for _ in range(count):
            stream.send()
        loses_nothing(system, stream)


@pytest.fixture(scope="module")
def fourth_broker(fragile_brokers: tuple[LocalBroker, LocalBroker]) -> Iterator[LocalBroker]:
    with LocalBroker("127.0.0.49", password=fragile_brokers[0].password) as broker:
        yield broker


EVENT_BYTES = 170
"""Of an event with 60 bytes of padding, in a batch; near enough for a rate."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_brokers_that_are_nearly_alike_lose_nothing(
    trio: Trio, fourth_broker: LocalBroker
) -> None:
    rates = (2_500, 2_000, 2_000, 1_950)
    with fleet((*trio, fourth_broker), relayed=range(4), limits=Limits()) as system:
        for number, rate in enumerate(rates):
            system.proxies[number].shape(Shape(Bucket(rate * EVENT_BYTES)), Shape())
        stream = system.stream(5_000, 60)
        with stream.running():
            time.sleep(25)
        confirmed = [system.publisher(number).confirmed for number in range(4)]
        print("confirmed in 25 s:", confirmed)
        loses_nothing(system, stream)


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=REAL)])
def test_an_own_uplink_that_is_the_bottleneck_loses_nothing(trio: Trio, seconds: int) -> None:
    limits = QUICK if seconds < 10 else Limits()
    with fleet(trio, relayed=[1, 2], limits=limits) as system:
        uplink = Shape(Bucket(60_000))
        for proxy in system.proxies.values():
            proxy.shape(uplink, Shape())
        stream = system.stream(1_000, 60)
        with stream.running():
            time.sleep(seconds)
        for proxy in system.proxies.values():
            proxy.heal()
        loses_nothing(system, stream)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_disk_that_stalls_for_8_s_loses_nothing(trio: Trio) -> None:
    with fleet(trio, limits=Limits()) as system:
        stream = system.stream(1_000)

        def stall() -> None:
            trio[SICK].pause()
            try:
                time.sleep(8)
            finally:
                trio[SICK].resume()

        during(stream, stall, 8)
        loses_nothing(system, stream)


@pytest.mark.parametrize("away_s", [0.6, pytest.param(4.0, marks=REAL)], ids=["short", "4 s"])
def test_a_broker_that_is_away_for_a_restart_under_flood_loses_nothing(
    trio: Trio, away_s: float
) -> None:
    limits = replace(QUICK, absent_after_s=3.0) if away_s < 1 else Limits()
    with fleet(trio, relayed=[SICK], limits=limits) as system:
        stream = system.stream(FLAT_OUT)
        proxy = system.proxies[SICK]

        def restart() -> None:
            proxy.refuse()
            time.sleep(away_s)
            proxy.heal()

        during(stream, restart, 2)
        loses_nothing(system, stream)


@pytest.mark.parametrize("sickness", ["thin link", "frozen"])
def test_a_sender_with_one_broker_only_waits_and_loses_nothing(trio: Trio, sickness: str) -> None:
    with fleet(trio[:1], relayed=[0], transmit_timeout=60.0) as system:
        stream = system.stream(FLAT_OUT if sickness == "frozen" else 2_000)

        def happens() -> None:
            if sickness == "frozen":
                trio[0].pause()
                try:
                    time.sleep(3 * system.limits.absent_after_s)
                finally:
                    trio[0].resume()
            else:
                system.proxies[0].slow_down(bytes_a_second=32_000)
                time.sleep(3 * system.limits.slow_after_s)
                system.proxies[0].heal()

        during(stream, happens)
        loses_nothing(system, stream)


@pytest.mark.parametrize("seconds", [2, pytest.param(8, marks=REAL)])
def test_a_stall_of_our_own_loses_nothing_and_makes_no_broker_sick(
    trio: Trio, seconds: int
) -> None:
    """The whole process of the sender stands still; then it has much to catch up with."""
    limits = QUICK if seconds < 5 else Limits()
    with fleet(trio, limits=limits) as system:
        arguments = system.arguments(0)
        with sender_process(arguments, 1_000) as sender:
            wait_until(lambda: system.heard[SICK].took, 20)
            time.sleep(1)
            sender.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            sender.process.send_signal(signal.SIGCONT)
            time.sleep(seconds)
            report = sender.finish()
        print(report)
        assert report["refused"] == 0
        assert set(report["dropped"].values()) == {0}
        assert set(report["conditions"].values()) == {"KEEPING_UP"}
        accepted = report["accepted"]
        wait_until(lambda: all(len(one.took) >= accepted for one in system.heard), 20)
        for number in range(3):
            account = system.account(number)
            assert account.delivered == accepted
            assert not account.reordered
            assert not account.duplicated


def test_threads_of_the_test_end() -> None:
    """Streams end with their test, also if it fails."""
    assert not [one for one in threading.enumerate() if one.name == "stream"]
