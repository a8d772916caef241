"""What the scout asks, keeps and shows; the asking itself is replaced."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from urllib.parse import quote

import pytest

from miros_rabbitmq.discovery import scout as scout_module
from miros_rabbitmq.discovery.lan import LocalAreaNetwork
from miros_rabbitmq.discovery.outcome import (
    ProbeOutcome,
    ProbeResult,
    ScoutReport,
    short,
    without_duplicates,
)
from miros_rabbitmq.discovery.probe import ProbeLimits, login_of
from miros_rabbitmq.discovery.scout import RabbitScout
from miros_rabbitmq.discovery.search import Login
from miros_rabbitmq.exceptions import (
    AccessRefused,
    BrokerError,
    BrokerUnreachable,
    SettingsError,
    UnknownHost,
    VhostNotFound,
)
from miros_rabbitmq.urls import Address, amqp_url

PASSWORD = "p4ss-w0rd/unseen"


def row(host: str, outcome: ProbeOutcome, detail: str = "", ip: str = "") -> ProbeResult:
    return ProbeResult(Address(host), outcome, detail, 0.012, "robot", "factory floor", ip)


class Asked:
    """Stands in for the probes: remembers whom it asked, and answers as told."""

    def __init__(self) -> None:
        self.rounds: list[list[Address]] = []
        self.logins: list[Login] = []
        self.limits: ProbeLimits | None = None
        self.answer: Callable[[Address], ProbeOutcome] = lambda _: ProbeOutcome.CONNECTED

    def __call__(
        self,
        addresses: Sequence[Address],
        login: Login,
        *,
        tls: object = None,
        limits: ProbeLimits | None = None,
        stop: threading.Event | None = None,
        may_connect: object = None,
    ) -> list[ProbeResult]:
        self.rounds.append(list(addresses))
        self.logins.append(login)
        self.limits = limits
        return [ProbeResult(one, self.answer(one), "", 0.01, login.user) for one in addresses]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stand_in = Asked()
    monkeypatch.setattr(scout_module, "probe_all", stand_in)
    return stand_in


def made(**settings: object) -> RabbitScout:
    defaults: dict[str, object] = {
        "addresses": ["10.0.0.2", "10.0.0.3:5673", "robot.example"],
        "rabbit_host": "10.0.0.1",
    }
    return RabbitScout("robot", PASSWORD, **{**defaults, **settings})  # type: ignore[arg-type]


# ---- which candidates it asks


def test_no_broker_is_asked_before_a_result_is_wanted(asked: Asked) -> None:
    scout = made()
    assert scout.this.url == f"amqp://robot:{PASSWORD.replace('/', '%2F')}@10.0.0.1:5672/%2F"
    assert scout.this.address == "10.0.0.1"
    assert asked.rounds == []


def test_this_nodes_own_broker_is_asked_first_and_every_candidate_once(asked: Asked) -> None:
    scout = made(addresses=["10.0.0.2", "10.0.0.1:5672", "10.0.0.2:5672", "10.0.0.2:5673"])
    assert scout.addresses == ["10.0.0.1", "10.0.0.2", "10.0.0.2:5673"]
    assert len(asked.rounds) == 1


def test_a_candidate_without_a_port_is_asked_on_the_port_of_the_own_broker(asked: Asked) -> None:
    scout = made(rabbit_port=5001)
    assert scout.addresses == [
        "10.0.0.1:5001",
        "10.0.0.2:5001",
        "10.0.0.3:5673",
        "robot.example:5001",
    ]


def test_candidates_come_from_the_lan_it_is_given(asked: Asked) -> None:
    lan = LocalAreaNetwork(["10.9.9.2", "10.9.9.3"], rabbit_host="10.9.9.1")
    scout = RabbitScout("robot", PASSWORD, lan=lan)
    assert scout.this.address == "10.9.9.1"
    assert scout.other.addresses == ["10.9.9.2", "10.9.9.3"]


def test_addresses_may_come_from_an_iterator(asked: Asked) -> None:
    scout = made(addresses=iter(["10.0.0.7"]))
    assert scout.other.addresses == scout.lan.other.addresses == ["10.0.0.7"]


@pytest.mark.parametrize("wrong", [["10.0.0.1:0"], "10.0.0.1", [""]])
def test_a_malformed_address_is_refused_in_the_constructor(wrong: object) -> None:
    with pytest.raises(SettingsError):
        made(addresses=wrong)


def test_a_longer_connect_timeout_makes_the_whole_probe_longer(asked: Asked) -> None:
    made(connect_timeout_s=5.0, parallelism=7).probe()
    assert asked.limits is not None
    assert asked.limits.connect_timeout_s == 5.0
    assert asked.limits.probe_timeout_s > 5.0
    assert asked.limits.parallelism == 7


# ---- how it uses the answers


def test_only_working_brokers_are_listed_and_the_others_are_in_the_report(asked: Asked) -> None:
    asked.answer = lambda address: (
        ProbeOutcome.REFUSED if address.host == "10.0.0.2" else ProbeOutcome.CONNECTED
    )
    scout = made()
    assert scout.addresses == ["10.0.0.1", "10.0.0.3:5673", "robot.example"]
    assert scout.other.addresses == ["10.0.0.3:5673", "robot.example"]
    assert scout.url == scout.urls
    assert scout.urls[0] == scout.this.url
    assert [url.address.host for url in scout.other.urls] == ["10.0.0.3", "robot.example"]
    assert scout.report["10.0.0.2"].outcome is ProbeOutcome.REFUSED


def test_the_own_url_is_known_even_if_its_broker_does_not_work(asked: Asked) -> None:
    asked.answer = lambda address: (
        ProbeOutcome.TIMED_OUT if address.host == "10.0.0.1" else ProbeOutcome.CONNECTED
    )
    scout = made()
    assert scout.this.url not in scout.urls
    assert scout.this.url.address == Address("10.0.0.1")


def test_probing_again_replaces_the_report(asked: Asked) -> None:
    scout = made()
    asked.answer = lambda _: ProbeOutcome.REFUSED
    assert scout.probe().connected == ()
    asked.answer = lambda _: ProbeOutcome.CONNECTED
    assert scout.urls == []
    assert len(scout.sweep().connected) == 4
    assert len(scout.urls) == 4
    assert len(asked.rounds) == 2


def test_threads_that_ask_at_the_same_time_wait_for_one_round(asked: Asked) -> None:
    scout = made()
    asking = threading.Barrier(8)
    answers: list[int] = []

    def ask() -> None:
        asking.wait(20)
        answers.append(len(scout.urls))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [4] * 8
    assert len(asked.rounds) == 1


def test_one_broker_under_two_names_is_used_once() -> None:
    rows = without_duplicates(
        [
            row("10.0.0.1", ProbeOutcome.CONNECTED, ip="10.0.0.1"),
            row("robot.example", ProbeOutcome.CONNECTED, ip="10.0.0.1"),
            row("other.example", ProbeOutcome.UNKNOWN_HOST),
            row("third.example", ProbeOutcome.UNKNOWN_HOST),
        ]
    )
    assert [one.outcome for one in rows] == [
        ProbeOutcome.CONNECTED,
        ProbeOutcome.DUPLICATE,
        ProbeOutcome.UNKNOWN_HOST,
        ProbeOutcome.UNKNOWN_HOST,
    ]
    assert rows[1].detail == "resolves to 10.0.0.1, as 10.0.0.1:5672 does"


# ---- what it shows


def test_no_password_is_in_any_text_about_the_scout(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    scout = made()
    shown = [repr(scout), repr(scout.urls), repr(scout.this.url), repr(scout.report)]
    shown += [str(scout.report), caplog.text, repr(asked.logins), repr(scout.lan)]
    assert "10.0.0.2" in caplog.text
    for text in shown:
        assert "p4ss" not in text


def test_a_report_prints_as_a_table() -> None:
    report = ScoutReport(
        (
            row("10.0.0.1", ProbeOutcome.CONNECTED, "RabbitMQ 3.13.7"),
            row("robot.example", ProbeOutcome.NO_SUCH_VHOST, "vhost factory floor not found"),
        ),
        1.53,
    )
    assert str(report).splitlines() == [
        "broker              outcome         time  detail",
        "------------------  -------------  -----  -----------------------------",
        "10.0.0.1:5672       connected      12 ms  RabbitMQ 3.13.7",
        "robot.example:5672  no such vhost  12 ms  vhost factory floor not found",
        "1 of 2 usable, in 1.5 s",
    ]


def test_an_empty_report_prints_too() -> None:
    assert str(ScoutReport(())).endswith("0 of 0 usable, in 0.0 s")


def test_a_report_is_looked_up_by_any_form_of_the_address() -> None:
    first = row("10.0.0.1", ProbeOutcome.CONNECTED)
    report = ScoutReport((first,))
    assert report[Address("10.0.0.1")] is report["10.0.0.1:5672"] is report["10.0.0.1"] is first
    assert report.counts()[ProbeOutcome.CONNECTED] == len(report) == len(list(report)) == 1
    with pytest.raises(KeyError):
        report["10.0.0.9"]


@pytest.mark.parametrize(
    ("outcome", "error", "advice"),
    [
        (ProbeOutcome.REFUSED, BrokerUnreachable, "start RabbitMQ there"),
        (ProbeOutcome.TIMED_OUT, BrokerUnreachable, "firewall"),
        (ProbeOutcome.UNREACHABLE, BrokerUnreachable, "as seen"),
        (ProbeOutcome.UNKNOWN_HOST, UnknownHost, "check its spelling"),
        (ProbeOutcome.NOT_RABBITMQ, BrokerUnreachable, "correct the host or the port"),
        (ProbeOutcome.TLS_FAILED, BrokerUnreachable, "certificate"),
        (ProbeOutcome.ACCESS_REFUSED, AccessRefused, "rabbitmqctl add_user robot;"),
        (ProbeOutcome.NO_SUCH_VHOST, VhostNotFound, "rabbitmqctl add_vhost"),
        (ProbeOutcome.CLOSED, BrokerUnreachable, "broke while it was opened"),
        (ProbeOutcome.FAILED, BrokerUnreachable, "as seen"),
    ],
)
def test_every_failure_is_an_error_that_says_where_and_what_to_do(
    outcome: ProbeOutcome, error: type[BrokerError], advice: str
) -> None:
    failed = row("10.0.0.1", outcome, "as seen")
    with pytest.raises(error) as caught:
        failed.raise_for_outcome()
    assert type(caught.value) is error
    assert caught.value.host == "10.0.0.1:5672"
    assert "10.0.0.1" in str(caught.value)
    assert advice in str(caught.value)


def test_every_outcome_is_an_error_or_none() -> None:
    for outcome in ProbeOutcome:
        error = row("10.0.0.1", outcome).error()
        assert (error is None) == (outcome in (ProbeOutcome.CONNECTED, ProbeOutcome.DUPLICATE))


def test_wrong_settings_are_not_transient_and_a_silent_host_is() -> None:
    assert not ProbeOutcome.ACCESS_REFUSED.transient
    assert not ProbeOutcome.NO_SUCH_VHOST.transient
    assert ProbeOutcome.UNKNOWN_HOST.transient
    assert ProbeOutcome.TIMED_OUT.transient


def test_an_address_is_written_without_the_port_of_amqp() -> None:
    assert short(Address("10.0.0.1")) == "10.0.0.1"
    assert short(Address("10.0.0.1", 5671)) == "10.0.0.1:5671"


@pytest.mark.parametrize("vhost", ["/", "x", "/x", "a b%c"])
def test_a_login_is_read_back_from_its_url(vhost: str) -> None:
    url = amqp_url("pe:ter", "p@ss/w:rd", Address("h"), vhost)
    assert login_of(url) == Login("pe:ter", "p@ss/w:rd", vhost)


def test_a_url_without_credentials_means_what_it_means_to_pika() -> None:
    assert login_of("amqp://h") == Login("guest", "guest", "/")


@pytest.mark.parametrize(("scheme", "port"), [("amqp", 5672), ("amqps", 5671)])
def test_the_port_is_the_one_of_the_scheme_where_none_is_given(
    asked: Asked, scheme: str, port: int
) -> None:
    tls = ssl.create_default_context() if scheme == "amqps" else None
    scout = made(tls=tls)
    assert scout.this.url == f"{scheme}://robot:{quote(PASSWORD, safe='')}@10.0.0.1:{port}/%2F"
    assert [url.address.port for url in scout.urls] == [port, port, 5673, port]
    assert {url.address.port for url in made(tls=tls, rabbit_port=5999).urls} == {5999, 5673}
    assert made(tls=tls, rabbit_host="10.0.0.1:5674").this.url.address.port == 5674
