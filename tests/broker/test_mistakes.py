"""Every mistake that a new user makes, at a real broker: the words, and whether the remedy mends.

The commands that a fault recommends are run as they stand, and then the chart has to connect.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    BrokerError,
    DeliveryProblem,
    Limits,
    LocalBroker,
    LocalBrokerError,
    ProblemKind,
    SessionState,
)
from miros_rabbitmq.discovery.probe import probe_one
from miros_rabbitmq.logs import write_all

from ..helpers import PATIENT_PROBE, scaled, wait_until
from .charts import arguments_for, listening, make_active_object, running

KEY = Fernet.generate_key()
PASSWORD = "C4nary-p4ssw0rd"
USER = "it's weak"
NOTHING = "^$"


@pytest.fixture(scope="module")
def node(rabbitmq_installed: None) -> Iterator[LocalBroker]:
    with LocalBroker("127.0.0.45", users={USER: PASSWORD}, vhosts=("/", "a b")) as broker:
        yield broker


@pytest.fixture
def mended(node: LocalBroker) -> Iterator[LocalBroker]:
    """A node at which everything is as it was, after the test."""
    yield node
    if USER not in node.ctl("list_users"):
        node.ctl("add_user", USER, stdin=PASSWORD)
    if "a b" not in node.ctl("list_vhosts"):
        node.ctl("add_vhost", "a b")
    node.ctl("set_vhost_limits", "-p", "a b", "{}")
    node.ctl("clear_user_limits", USER, "all")
    node.ctl("clear_topic_permissions", "-p", "a b", USER)
    node.ctl("set_permissions", "-p", "a b", USER, ".*", ".*", ".*")


def chart_of(node: LocalBroker, **extras: Any) -> Any:
    arguments = {
        **arguments_for(node, key=KEY, start_timeout=scaled(2)),
        "rabbit_user": USER,
        "rabbit_password": PASSWORD,
        "rabbit_vhost": "a b",
        "addresses": [],
        **extras,
    }
    return make_active_object("learner", **arguments)[0]


def run_remedy(node: LocalBroker, words: str) -> None:
    """Run the commands that a fault recommends, as a shell would."""
    commands = re.findall(r"rabbitmqctl (?:set|clear|add)_\w+ -?.*?(?=; |, | \(|$)", words)
    assert commands, words
    for command in commands:
        if "set_vhost_limits" not in command:
            _, *given = shlex.split(command)
            # It asks for the password.
            node.ctl(*given, stdin=PASSWORD if given[0] == "add_user" else "")


class Mistake(NamedTuple):
    """Commands that spoil the node, and what has to be said of it."""

    commands: list[list[str]]
    words: str
    is_final: bool = False
    """It ends the start, as only somebody who changes something can mend it."""
    is_probed: bool = True
    """Whoever only looks notices it, too."""


MISTAKES: dict[str, Mistake] = {
    "a limit of the vhost": Mistake(
        [["set_vhost_limits", "-p", "a b", '{"max-connections": 0}']],
        "allows only 0 connections to the virtual host 'a b'",
    ),
    "a limit of the user": Mistake(
        [["set_user_limits", USER, '{"max-connections": 0}']], "only 0 connections"
    ),
    "a limit of channels": Mistake(
        [["set_user_limits", USER, '{"max-channels": 0}']], "no more channels", is_probed=False
    ),
    "a limit of queues": Mistake(
        [["set_vhost_limits", "-p", "a b", '{"max-queues": 0}']],
        "as its limit of 0 queues is reached",
        is_probed=False,
    ),
    "no such user": Mistake([["delete_user", USER]], "refuses the user", is_final=True),
    "no such vhost": Mistake([["delete_vhost", "a b"]], "has no virtual host", is_final=True),
    "no right to the vhost": Mistake(
        [["clear_permissions", "-p", "a b", USER]], "use the virtual host 'a b'", is_final=True
    ),
    **{
        f"no right to {what}": Mistake(
            [["set_permissions", "-p", "a b", USER, *rights]],
            "the permissions it needs",
            is_final=True,
            is_probed=False,
        )
        for what, rights in {
            "configure": (NOTHING, ".*", ".*"),
            "write": (".*", NOTHING, ".*"),
            "read": (".*", ".*", NOTHING),
        }.items()
    },
    "no right to hear a routing key": Mistake(
        [["set_topic_permissions", "-p", "a b", USER, "miros.mesh", ".*", NOTHING]],
        "use the routing key",
        is_final=True,
        is_probed=False,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_what_mends_it(
    mended: LocalBroker, mistake: Mistake, caplog: pytest.LogCaptureFixture
) -> None:
    node = mended
    for command in mistake.commands:
        node.ctl(*command)
    chart = chart_of(node)
    try:
        if mistake.is_final:
            with pytest.raises(BrokerError) as caught:
                chart.start_at(listening)
            words = str(caught.value)
        else:
            chart.start_at(listening)  # goes on trying: a limit passes
            words = next(
                one.getMessage().partition("trying to connect: ")[2]
                for one in caplog.records
                if "runs without its broker" in one.getMessage()
            )
        assert mistake.words in words
        assert "firewall" not in words
        if mistake.is_probed:
            with pytest.raises(BrokerError) as seen:
                probe_one(chart.this_url(), limits=PATIENT_PROBE)
            assert str(seen.value) == words
        run_remedy(node, words)
        if mistake.is_final:
            chart.start_at(listening)
        wait_until(lambda: chart.nets.stats().mesh.consumer is SessionState.READY, 15)
    finally:
        chart.stop()
    assert PASSWORD not in caplog.text


# A broker that lets everybody log in, and then refuses what a link needs.


@pytest.fixture(scope="module")
def own_node(rabbitmq_installed: None) -> Iterator[LocalBroker]:
    with LocalBroker("127.0.0.46", users={USER: PASSWORD}, vhosts=("/", "a b")) as broker:
        yield broker


def said_of(node: LocalBroker, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that name a broker."""
    assert write_all(10)
    lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    return [line for line in lines if str(node.address) in line]


def attempts_of(link: str, words: str, caplog: pytest.LogCaptureFixture) -> int:
    """How often a link was refused in these words."""
    lines = [one.getMessage() for one in caplog.records]
    return sum(line.startswith(link) and words in line for line in lines)


PUBLISHERS = tuple(
    f"{name} publisher" for name in ("miros.mesh", "miros.snoop.trace", "miros.snoop.spy")
)
MISSES = "the permissions it needs"
ABSENT = "there is no exchange"


class Refusal(NamedTuple):
    """What a peer refuses, and who notices it."""

    command: list[str]
    words: str
    publishers: tuple[str, ...] = PUBLISHERS


REFUSALS = {
    "no permission": Refusal(["set_permissions", "-p", "a b", USER, "", "", ""], MISSES),
    "no channel": Refusal(["set_user_limits", USER, '{"max-channels": 0}'], "no more channels"),
    "no permission for the snoops": Refusal(
        ["set_permissions", "-p", "a b", USER, *[r"^(miros\.mesh|amq\.gen-)"] * 3],
        MISSES,
        PUBLISHERS[1:],
    ),
    "no right to log in, as discovery notices": Refusal(
        ["clear_permissions", "-p", "a b", USER], "use the virtual host", ()
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_peer_that_refuses_a_link_is_told_once_for_all_networks(
    own_node: LocalBroker,
    mended: LocalBroker,
    refusal: Refusal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "miros_rabbitmq.amqp")
    mended.ctl(*refusal.command)
    away: list[DeliveryProblem] = []
    chart = chart_of(
        own_node,
        addresses=[str(mended.address)],
        rescan_interval=0.5,
        limits=Limits(refused_retry_s=0.5, reconnect_max_s=0.5),
        on_delivery_problem=lambda one: away.append(one) if one.kind is ProblemKind.AWAY else None,
    )
    chart.enable_snoop_trace()
    chart.enable_snoop_spy()
    with running(chart):
        chart.transmit(Event(signal="HELLO"))
        wait_until(lambda: said_of(mended, caplog), 10)
        for publisher in refusal.publishers:
            wait_until(lambda who=publisher: attempts_of(who, refusal.words, caplog) >= 2, 15)  # type: ignore[misc]
        said, *more = said_of(mended, caplog)
        # An exchange that others have declared may be looked for; one that is missing is another
        # matter, which is told once, too.
        assert [ABSENT in line for line in more] in ([], [ABSENT not in said])
        assert all(refusal.words in line for line in (said, *more))
        is_away = PUBLISHERS[0] in refusal.publishers
        if is_away:
            wait_until(lambda: away, 10)
            assert refusal.words in away[0].text
        run_remedy(mended, said)
        assert chart.nets.wait_for_peers(1, scaled(25))
        for stats in (lambda: chart.nets.stats().mesh, lambda: chart.nets.stats().snoop_trace):
            wait_until(lambda of=stats: _is_reached(mended, of()), 15)  # type: ignore[misc]
        assert chart.nets.flush(scaled(25))
        wait_until(lambda: [one.is_over for one in away] == [False, True] * is_away, 10)
    assert PASSWORD not in caplog.text


def _is_reached(node: LocalBroker, stats: Any) -> bool:
    return bool(stats.brokers[str(node.address)].state is SessionState.READY)


def test_a_refusal_that_comes_again_after_it_was_mended_is_told_again(
    own_node: LocalBroker, mended: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    command, words, _ = REFUSALS["no permission"]
    limits = Limits(refused_retry_s=0.3, reconnect_max_s=0.3)
    chart = chart_of(own_node, addresses=[str(mended.address)], limits=limits)
    mended.ctl(*command)
    with running(chart):
        for _ in range(2):
            wait_until(lambda: words in "".join(said_of(mended, caplog)), 10)
            run_remedy(mended, said_of(mended, caplog)[-1])
            assert chart.nets.wait_for_peers(1, scaled(25))
            caplog.clear()
            mended.ctl(*command)
            mended.ctl("close_all_connections", "-p", "a b", "for the test")


OWN_REFUSALS = {
    "one queue, and the trace wants another": (
        ["set_vhost_limits", "-p", "a b", '{"max-queues": 1}'],
        "its limit of 1 queues is reached",
        "clear_vhost_limits",
    ),
    "no right to the queue of the trace": (
        ["set_permissions", "-p", "a b", USER, *[r"^miros\."] * 3],
        MISSES,
        "set_permissions",
    ),
    "one channel": (
        ["set_user_limits", USER, '{"max-channels": 1}'],
        "no more channels",
        "clear_user_limits",
    ),
}


@pytest.mark.parametrize(("command", "words", "remedy"), OWN_REFUSALS.values(), ids=OWN_REFUSALS)
def test_the_own_broker_that_refuses_any_link_is_told_once(
    mended: LocalBroker,
    command: list[str],
    words: str,
    remedy: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "miros_rabbitmq.amqp")
    mended.ctl(*command)
    chart = chart_of(mended, limits=Limits(reconnect_max_s=0.3, refused_retry_s=0.3))
    chart.enable_snoop_trace()
    for _ in range(5):
        chart.start_at(listening)
        if not all(_own_links(mended, chart)):
            break
        chart.stop()  # RabbitMQ counts late: if all come at the same time, none is one too many
    with running(chart):
        chart.transmit(Event(signal="HELLO"))
        wait_until(lambda: said_of(mended, caplog), 10)
        # The links go on trying, and say no more.
        wait_until(lambda: attempts_of("miros", words, caplog) >= 5, 15)
        (said,) = said_of(mended, caplog)
        assert words in said
        assert remedy in said
        run_remedy(mended, said)
        wait_until(lambda: all(_own_links(mended, chart)), 15)
        wait_until(lambda: chart.nets.stats().mesh.confirmed == 1, 10)


def _own_links(node: LocalBroker, chart: Any) -> list[bool]:
    """Whether each link of the mesh and of the trace to the own broker is ready."""
    both = (chart.nets.stats().mesh, chart.nets.stats().snoop_trace)
    consumers = [one.consumer is SessionState.READY for one in both]
    return consumers + [_is_reached(node, one) for one in both]


def test_a_snoop_that_is_enabled_later_and_refused_is_told(
    mended: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    mended.ctl("set_vhost_limits", "-p", "a b", '{"max-queues": 1}')
    chart = chart_of(mended, limits=Limits(reconnect_max_s=0.3))
    with running(chart):
        for snoop in ("trace", "spy"):
            getattr(chart, f"enable_snoop_{snoop}")()
        wait_until(lambda: said_of(mended, caplog), 10)
        (said,) = said_of(mended, caplog)
        assert "its limit of 1 queues is reached" in said
        run_remedy(mended, said)
        wait_until(lambda: all(_own_links(mended, chart)), 15)


def test_a_right_to_send_by_a_routing_key_is_missing(
    mended: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ["set_topic_permissions", "-p", "a b", USER, "miros.mesh"]
    mended.ctl(*rights, "^miros", ".*")
    chart = chart_of(mended, tx_routing_key="of.mine")
    try:
        chart.start_at(listening)
        chart.transmit(Event(signal="HELLO"))
        said = (
            "use the routing key 'of.mine': on the broker run as root: "
            "rabbitmqctl set_topic_permissions"
        )
        wait_until(lambda: said in caplog.text, 10)
    finally:
        chart.stop()


def test_a_new_fault_in_the_same_outage_is_said(
    mended: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    chart = chart_of(mended)
    try:
        chart.start_at(listening)
        mended.ctl("change_password", USER, stdin="another")
        mended.ctl("close_all_connections", "-p", "a b", "new passwords")
        wait_until(
            lambda: (
                "closed it (rabbitmqctl close_connection" in caplog.text
                and "refuses the user" in caplog.text
            ),
            15,
        )
    finally:
        mended.ctl("change_password", USER, stdin=PASSWORD)
        chart.stop()


def test_the_command_that_adds_a_user_reads_the_password_from_standard_input(
    mended: LocalBroker,
) -> None:
    # As recommended, without the password, which a list of processes would show.
    mended.ctl("add_user", "another", stdin=PASSWORD)  # as `printf` writes it
    mended.ctl("change_password", "another", stdin=f"{PASSWORD}!\n")  # as `echo` does
    assert PASSWORD not in mended.ctl("authenticate_user", "another", stdin=f"{PASSWORD}!")
    with pytest.raises(LocalBrokerError, match="failed to authenticate") as refused:
        mended.ctl("authenticate_user", "another", stdin=PASSWORD)
    assert PASSWORD not in str(refused.value)
    mended.ctl("delete_user", "another")


def test_charts_of_a_process_say_once_what_to_do_about_another_key(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "miros_rabbitmq")
    limits = Limits(announce_s=1.0)
    ours, another = Fernet.generate_key(), Fernet.generate_key()
    keys = {"one": ours, "two": ours, "three": ours, "stranger": another}
    charts = {
        name: make_active_object(name, **arguments_for(broker_a, key=key, limits=limits))[0]
        for name, key in keys.items()
    }
    hearing = [name for name, key in keys.items() if key == ours]
    with running(*charts.values()):
        charts["stranger"].transmit(Event(signal="UNREAD"))
        wait_until(lambda: all(charts[name].nets.stats().mesh.rejected for name in hearing), 15)
        said = [
            (one.levelno, one.getMessage())
            for one in caplog.records
            if any(f"consumer of {name} at" in one.getMessage() for name in hearing)
            and "has another key" in one.getMessage()
        ]
    with_remedy = [text for _, text in said if "the same mesh_encryption_key" in text]
    assert len(with_remedy) == 1
    assert len(said) >= len(hearing)
    assert all(text.endswith(", as said before") for _, text in said if text not in with_remedy)
    rejected = [text for level, text in said if "rejected a message" in text]
    assert len(rejected) == len(hearing), "each chart says what it has lost"


def test_both_sides_say_that_their_keys_differ_before_any_event(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "miros_rabbitmq")
    limits = Limits(announce_s=1.0)  # the first to start is heard by the other after this time
    charts = {
        name: make_active_object(
            name, **arguments_for(broker_a, key=Fernet.generate_key(), limits=limits)
        )[0]
        for name in ("one", "other")
    }

    def said(start: str, *parts: str) -> list[str]:
        texts = [one.getMessage() for one in caplog.records]
        return [
            one for one in texts if one.startswith(start) and all(part in one for part in parts)
        ]

    with running(*charts.values()):
        for name, another in (("one", "other"), ("other", "one")):
            (start,) = said(f"miros.mesh of {another}: as ")
            words = start.partition(": ")[2]
            wait_until(
                lambda name=name, words=words: said(  # type: ignore[misc]
                    f"miros.mesh consumer of {name} at",
                    "neither hears the other",
                    "the same mesh_encryption_key",
                    words,
                ),
                15,
            )
        # An event that cannot be read names its sender in the same way, and not the remedy again.
        charts["one"].transmit(Event(signal="UNREAD"))
        (start,) = said("miros.mesh of one: as ")
        sender = start.partition(": ")[2].partition(",")[0]
        (rejected,) = wait_until(
            lambda: said("miros.mesh consumer of other", "rejected a message"), 10
        )
        assert f"its sender, {sender}, has another key" in rejected
        assert rejected.endswith(", as said before")
        assert not charts["other"].record.heard
