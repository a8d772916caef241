"""What the log says of brokers: each thing once, and only so much."""

from __future__ import annotations

import logging

import pytest

from miros_rabbitmq import Address, PeerSource, SettingsError
from miros_rabbitmq.answers import Answers
from miros_rabbitmq.discovery.outcome import ProbeOutcome, ProbeResult
from miros_rabbitmq.discovery.peer_reports import GETS_NONE, PeerReports, Standing
from miros_rabbitmq.discovery.places import Kind

NAMED = Standing(PeerSource.NAMED)
HEARD = Standing(PeerSource.HEARD, is_lasting=True)
AT = Address("10.0.0.7")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports(clock: Clock, caplog: pytest.LogCaptureFixture) -> PeerReports:
    caplog.set_level(logging.DEBUG, "miros_rabbitmq")
    return PeerReports("fan", Answers(), clock)


def row(outcome: ProbeOutcome, address: Address = AT) -> ProbeResult:
    return ProbeResult(address, outcome, "", 0.01)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    caplog.clear()
    return said


def test_an_outcome_is_said_once_until_it_changes(
    reports: PeerReports, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        reports.probed(row(ProbeOutcome.ACCESS_REFUSED), NAMED)
    assert len(warnings(caplog)) == 1
    reports.probed(row(ProbeOutcome.CONNECTED), NAMED)
    assert reports.is_told(row(ProbeOutcome.CONNECTED))
    reports.probed(row(ProbeOutcome.ACCESS_REFUSED), NAMED)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("source", [PeerSource.NAMED, PeerSource.HOSTS_FILE])
def test_a_line_says_where_the_address_comes_from(
    reports: PeerReports, source: PeerSource, caplog: pytest.LogCaptureFixture
) -> None:
    reports.probed(row(ProbeOutcome.REFUSED), Standing(source))
    (said,) = warnings(caplog)
    assert said.startswith(f"fan: the broker at {AT} ({source.value}): nothing listens at {AT}: ")


def test_it_is_said_again_of_a_broker_that_was_forgotten(
    reports: PeerReports, caplog: pytest.LogCaptureFixture
) -> None:
    reports.probed(row(ProbeOutcome.TIMED_OUT), NAMED)
    assert len(warnings(caplog)) == 1
    reports.forget([])
    reports.probed(row(ProbeOutcome.TIMED_OUT), NAMED)
    reports.forget([AT])
    reports.probed(row(ProbeOutcome.TIMED_OUT), NAMED)
    assert len(warnings(caplog)) == 1


def test_of_the_own_broker_and_of_hosts_of_the_lan_there_is_no_warning(
    reports: PeerReports, caplog: pytest.LogCaptureFixture
) -> None:
    own = Standing(PeerSource.OWN, is_own=True)
    reports.probed(row(ProbeOutcome.ACCESS_REFUSED), own)
    reports.probed(row(ProbeOutcome.ACCESS_REFUSED, Address("10.0.0.8")), Standing(PeerSource.LAN))
    assert not warnings(caplog)


def test_an_announced_broker_is_said_when_it_is_announced_again_and_16_in_a_minute(
    reports: PeerReports, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reports.probed(row(ProbeOutcome.TIMED_OUT), Standing(PeerSource.HEARD))
    assert not reports.is_told(row(ProbeOutcome.TIMED_OUT))
    for number in range(100):
        reports.probed(row(ProbeOutcome.TIMED_OUT, Address(f"10.0.1.{number}")), HEARD)
    said = warnings(caplog)
    assert len(said) == 16
    assert GETS_NONE == "a node whose events are heard here gets none"
    assert all(GETS_NONE in one for one in said)
    clock.now_s += 60
    reports.probed(row(ProbeOutcome.TIMED_OUT, Address("10.0.2.1")), HEARD)
    assert len(warnings(caplog)) == 1


def test_brokers_without_a_place_are_said_when_they_are_twice_as_many(
    reports: PeerReports, caplog: pytest.LogCaptureFixture
) -> None:
    places = {Kind.FOUND: 8}
    for count, lines in ((0, 0), (3, 1), (6, 0), (7, 1), (2, 0)):
        reports.left_out({Kind.FOUND: count}, places)
        said = warnings(caplog)
        assert len(said) == lines, count
        assert all(f"{count} brokers found on the LAN" in one for one in said)
        assert all("places for 8 (Limits.lan_peers)" in one for one in said)
    reports.left_out({Kind.FOUND: 0}, places)
    assert "no broker found on the LAN is left out any more" in caplog.text


def test_announced_brokers_that_were_forgotten_are_said_when_they_are_more_than_twice_as_many(
    reports: PeerReports, caplog: pytest.LogCaptureFixture
) -> None:
    for count, lines in ((0, 0), (1, 1), (2, 0), (3, 1), (6, 0), (1_000, 1)):
        reports.crowded_out(count, 64)
        assert len(warnings(caplog)) == lines, count


def test_the_lan_and_the_own_broker_are_said_once_for_each_reason(
    reports: PeerReports, caplog: pytest.LogCaptureFixture
) -> None:
    gone = SettingsError("there is no wlan0")
    reports.lan_fails(gone)
    reports.lan_fails(gone)
    assert warnings(caplog) == ["fan: the LAN cannot be searched: there is no wlan0"]
    reports.lan_works()
    reports.lan_fails(gone)
    assert len(warnings(caplog)) == 1
    assert [reports.own_stays("it does not answer") for _ in range(2)] == [True, False]
    reports.own_moved("it is there")
    assert reports.own_stays("it does not answer")
    for number in range(3):
        reports.hears_loopback(Address("127.0.0.1", 5000 + number))
    assert caplog.text.count("leads to no other machine") == 1
