"""The health of a link: which connections count as dead, and how long it waits between attempts."""

from __future__ import annotations

import logging

import pytest

from miros_rabbitmq import faults
from miros_rabbitmq.amqp.health import WARNINGS, Backoff, Outages, Reporting, Watchdog
from miros_rabbitmq.answers import Answers
from miros_rabbitmq.exceptions import AccessRefused, BrokerUnreachable, ClosedByBroker, QueueTaken
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.logs import write_all
from miros_rabbitmq.urls import Address

LIMITS = Limits(reconnect_min_s=0.1, reconnect_max_s=5.0, refused_retry_s=30.0)


def ceilings(delays: list[float]) -> list[float]:
    """For each wait, the power of two of the shortest wait that it is up to half below."""
    return [min(5.0, 0.1 * 2**n) for n in range(len(delays))]


def fail(backoff: Backoff, times: int, now_s: float = 0.0) -> list[float]:
    return [backoff.fail(now_s, refused=False) for _ in range(times)]


def test_the_waits_double_up_to_the_limit_and_are_spread() -> None:
    for _ in range(50):
        delays = fail(Backoff(LIMITS), 12)
        for delay_s, ceiling_s in zip(delays, ceilings(delays), strict=True):
            assert ceiling_s / 2 <= delay_s <= ceiling_s
    assert len({fail(Backoff(LIMITS), 1)[0] for _ in range(20)}) > 1


def test_an_outage_of_years_overflows_nothing() -> None:
    assert fail(Backoff(LIMITS), 100_000)[-1] <= 5.0


@pytest.mark.parametrize("attempts", [0, 7])
def test_after_a_good_connection_the_first_wait_is_short_again(attempts: int) -> None:
    backoff = Backoff(LIMITS)
    fail(backoff, attempts)
    backoff.succeed(100.0)
    assert backoff.fail(102.1, refused=False) <= 0.1
    assert backoff.fail(102.2, refused=False) > 0.1


def test_a_broker_that_drops_us_at_once_is_tried_less_and_less_often() -> None:
    backoff = Backoff(LIMITS)
    delays = []
    for n in range(10):
        backoff.succeed(float(n))
        delays.append(backoff.fail(n + 0.5, refused=False))
    assert delays[0] <= 0.2
    assert delays[-1] >= 2.5
    assert backoff.is_short_lived, "it learns nothing from the connections of others"
    backoff.succeed(100.0)
    backoff.fail(200.0, refused=False)
    assert not backoff.is_short_lived


def test_a_refusal_has_its_own_wait_and_does_not_count_as_an_attempt() -> None:
    backoff = Backoff(LIMITS)
    assert [backoff.fail(0.0, refused=True) for _ in range(5)] == [30.0] * 5
    assert backoff.fail(0.0, refused=False) <= 0.1


def test_a_queue_that_is_taken_is_tried_again_every_second() -> None:
    backoff = Backoff(LIMITS)
    delays = [backoff.fail(0.0, taken=True) for _ in range(20)]
    assert delays[0] <= 0.1
    assert all(0.5 <= delay_s <= 1.0 for delay_s in delays[5:])


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """What was logged at this level since the last call, without the part all lines share."""
    assert write_all(10)
    found = [one.getMessage() for one in caplog.records if one.levelno == level]
    caplog.clear()
    return [text.removeprefix("the link: ") for text in found]


def test_an_outage_is_reported_once_and_a_taken_queue_is_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    outages = Outages("the link", WARNINGS)
    outages.succeed("miros-1, queue q")
    assert messages(caplog, logging.INFO) == ["connected as miros-1, queue q"]
    for text in ("gone", "gone", "away"):
        outages.fail(BrokerUnreachable(text))
    assert messages(caplog, logging.WARNING) == ["gone; trying again"]
    for text in ("in use", "in use", "taken"):
        outages.fail(QueueTaken(text))
    assert messages(caplog, logging.WARNING) == ["in use; trying again", "taken; trying again"]
    outages.succeed("miros-2, queue r")
    assert messages(caplog, logging.WARNING) == ["connected again as miros-2, queue r"]
    outages.fail(QueueTaken("taken"))
    assert messages(caplog, logging.WARNING) == ["taken; trying again"]
    for text in ("cut; it is tried again", "given up; it is opened anew"):
        outages.succeed("miros-3, queue s")
        caplog.clear()
        outages.fail(BrokerUnreachable(text))
        assert messages(caplog, logging.WARNING) == [text], "it is said once"


def test_what_the_broker_answers_is_a_warning_of_one_link_whatever_its_levels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    quiet = Reporting(logging.INFO, logging.INFO, Answers())
    one, other = (Outages(name, quiet) for name in ("one", "other"))
    one.fail(BrokerUnreachable("away"))
    assert messages(caplog, logging.WARNING) == [], "discovery and the start say that"
    for link in (one, other, one, other):
        link.fail(AccessRefused("refused"))
    assert messages(caplog, logging.WARNING) == ["one: refused; trying again"]
    one.succeed("miros-1")
    assert messages(caplog, logging.WARNING) == ["one: connected as miros-1"]
    one.fail(ClosedByBroker("closed"))
    assert messages(caplog, logging.WARNING) == [], "another link reports the loss"
    one.fail(ClosedByBroker("closed"))
    assert messages(caplog, logging.WARNING) == ["one: closed; trying again"], "and this is no loss"
    one.end()
    other.fail(ClosedByBroker("closed"))
    assert messages(caplog, logging.WARNING) == ["other: closed; trying again"]


# Which connections count as dead, and which are only slow or have nothing to say.


def asked_at(now_s: float) -> Watchdog:
    watchdog = Watchdog(patience_s=12.0)
    watchdog.ask(now_s)
    return watchdog


def test_a_connection_that_does_not_answer_is_dead_when_patience_ends() -> None:
    watchdog = asked_at(100.0)
    assert not watchdog.is_dead(111.9, received=0, unsent=0)
    assert watchdog.is_dead(112.0, received=0, unsent=0)
    assert watchdog.silence_s(112.0) == 12.0


def test_a_connection_that_was_not_asked_is_not_dead() -> None:
    watchdog = asked_at(100.0)
    watchdog.answer(101.0)
    assert not watchdog.is_waiting
    assert not watchdog.is_dead(1_000.0, received=0, unsent=0)


def test_heartbeats_of_a_broker_that_no_longer_hears_us_are_no_answer() -> None:
    watchdog = asked_at(0.0)
    for tick in range(1, 5):
        assert not watchdog.is_dead(tick * 2.5, received=tick * 8, unsent=0)
    assert watchdog.is_dead(12.5, received=40, unsent=0)


def test_a_thin_link_that_still_carries_something_is_not_dead() -> None:
    incoming, outgoing = asked_at(0.0), asked_at(0.0)
    for tick in range(1, 20):
        assert not incoming.is_dead(tick * 2.5, received=tick * 1_000, unsent=0)
        assert not outgoing.is_dead(tick * 2.5, received=0, unsent=1_000_000 - tick * 1_000)


def test_data_that_only_piles_up_is_no_progress() -> None:
    watchdog = asked_at(0.0)
    for tick in range(1, 5):
        assert not watchdog.is_dead(tick * 2.5, received=0, unsent=tick * 1_000)
    assert watchdog.is_dead(12.5, received=0, unsent=5_000)


def test_our_own_heartbeats_that_leave_are_no_progress() -> None:
    watchdog = asked_at(0.0)
    for tick in range(1, 5):
        assert not watchdog.is_dead(tick * 2.5, received=0, unsent=8 * (tick % 2))
    assert watchdog.is_dead(12.5, received=0, unsent=8)


def test_from_a_broker_that_blocks_us_heartbeats_are_enough_but_silence_is_not() -> None:
    watchdog = asked_at(0.0)
    watchdog.answer(0.0)
    for tick in range(1, 10):
        assert not watchdog.is_dead(tick * 5.0, received=tick * 8, unsent=99, heartbeats_do=True)
    assert not watchdog.is_dead(56.9, received=72, unsent=99, heartbeats_do=True)
    assert watchdog.is_dead(57.0, received=72, unsent=99, heartbeats_do=True)


def test_a_link_that_gave_its_connection_up_on_purpose_comes_back_at_once() -> None:
    """Again and again, as the search for a message that a broker refuses takes many connections."""
    backoff = Backoff(LIMITS)
    for n in range(60):
        backoff.succeed(n / 10)
        assert backoff.come_back(n / 10 + 0.05) <= 0.1
    assert not backoff.is_short_lived
    assert backoff.fail(100.0) <= 0.1, "a failure begins with a short wait, too"


def test_a_link_that_does_so_all_the_time_slows_down_to_a_second() -> None:
    backoff = Backoff(LIMITS)
    delays = []
    for n in range(200):
        backoff.succeed(n / 10)
        delays.append(backoff.come_back(n / 10 + 0.05))
    assert min(delays[-50:]) >= 0.5
    assert max(delays) <= 1.0
    backoff.succeed(1_000.0)
    assert backoff.come_back(1_003.0) <= 0.1, "after a good connection it is quick again"


def test_a_broker_that_comes_and_goes_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each outage begins with another text, as an impostor can choose it."""
    caplog.set_level(logging.DEBUG)
    now_s = 0.0
    outages = Outages("the link", WARNINGS, lambda: now_s)
    for number in range(400):
        outages.succeed(f"miros-{number}")
        outages.fail(ClosedByBroker(f"closed {number}"))
        now_s += 3.0
    warnings = messages(caplog, logging.WARNING)
    assert 40 <= len(warnings) <= 50, "five at once, and one a minute; each with its end"
    assert warnings[0] == "closed 0; trying again"


def test_a_loss_says_where_the_address_comes_from_and_what_to_do_once_for_all_links(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    at = Address("10.0.0.9")
    one = Outages("one", WARNINGS._replace(origin="named in the hosts file"))
    other = Outages("other", WARNINGS)
    one.fail(faults.nothing_listens(at))
    other.fail(faults.nothing_listens(at))
    first, second = messages(caplog, logging.WARNING)
    assert first.startswith(f"one: {faults.nothing_listens(at)}")
    assert first.endswith(f"; trying again ({at} is named in the hosts file)")
    assert second == f"other: nothing listens at {at}, as said before; trying again"
    other.succeed("miros-1")
    messages(caplog, logging.WARNING)
    other.fail(faults.nothing_listens(at))
    (third,) = messages(caplog, logging.WARNING)
    assert third == f"other: {faults.nothing_listens(at)}; trying again"
