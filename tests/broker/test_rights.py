"""What somebody with RabbitMQ's password can do, with the rights and limits of docs/security.rst.

The commands are those of the page. Each attempt is made by a program that speaks AMQP by itself.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import (
    AccessRefused,
    DeliveryProblem,
    Limits,
    LocalBroker,
    LocalBrokerError,
    ProblemKind,
    SessionState,
)
from miros_rabbitmq.amqp import declaration, marker
from miros_rabbitmq.remedies import PERMISSIONS, declare_exchange, delete_exchange

from ..helpers import scaled, wait_until
from .administrator import PASSWORD, USER, commands_of_the_page, run
from .charts import listening, make_active_object, running

pytestmark = pytest.mark.usefixtures("node")  # before a test begins to look for leaks

KEY = Fernet.generate_key()
COMMANDS = commands_of_the_page()
EXCHANGES = {
    "miros.mesh": "topic",
    "miros.snoop.trace": "topic",
    "miros.snoop.spy": "topic",
    "miros.markers": "direct",
}
OWN = "miros." + "x" * 22
VICTIM = "miros." + "v" * 22
LIMITS = Limits(heartbeat_s=1, refused_retry_s=0.3, reconnect_max_s=0.3)


@pytest.fixture(scope="module")
def node(rabbitmq_installed: None) -> Iterator[LocalBroker]:
    with LocalBroker("127.0.0.47") as broker:
        yield broker


@pytest.fixture
def fresh(node: LocalBroker) -> LocalBroker:
    """A node at which nothing is left of what a test before has done."""
    node.ctl("delete_vhost", "/")
    node.ctl("add_vhost", "/")
    node.ctl("set_permissions", "-p", "/", node.user, ".*", ".*", ".*")
    with contextlib.suppress(LocalBrokerError):
        node.ctl("delete_user", USER)
    return node


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process does, which does not know that a broker refuses it."""
    nobody = declaration.Refusing()
    for module in (declaration, marker):
        monkeypatch.setattr(module, "refusing", nobody)


@pytest.fixture
def convenient(fresh: LocalBroker, tmp_path: Path) -> LocalBroker:
    run(fresh, COMMANDS.convenient, tmp_path)
    return fresh


@pytest.fixture
def narrow(convenient: LocalBroker, tmp_path: Path) -> LocalBroker:
    run(convenient, COMMANDS.narrow, tmp_path)
    return convenient


@contextmanager
def channel_of(node: LocalBroker, user: str = USER, password: str = PASSWORD) -> Iterator[Any]:
    login = pika.PlainCredentials(user, password)
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(node.host, node.port, "/", login)
    )
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def admin_of(node: LocalBroker) -> Any:
    return channel_of(node, node.user, node.password)


def chart_of(node: LocalBroker, name: str = "robot", **extras: Any) -> Any:
    arguments = {
        "rabbit_user": USER,
        "rabbit_password": PASSWORD,
        "mesh_encryption_key": KEY,
        "rabbit_host": node.host,
        "rabbit_port": node.port,
        "addresses": [],
        "start_timeout": scaled(5),
        "limits": LIMITS,
        **extras,
    }
    return make_active_object(name, **arguments)


def exchanges_of(node: LocalBroker) -> dict[str, str]:
    listed = (line.split() for line in node.ctl("list_exchanges", "name", "type").splitlines())
    return {line[0]: line[1] for line in listed if line and line[0].startswith("miros.")}


def refused(attempt: Callable[[Any], object], node: LocalBroker) -> str:
    """Why the broker refuses an attempt; empty if it does not."""
    with channel_of(node) as channel:
        try:
            attempt(channel)
        except pika.exceptions.ChannelClosedByBroker as error:
            return str(error.reply_text)
        except pika.exceptions.ConnectionClosedByBroker as error:
            return str(error.reply_text)
    return ""


def test_one_recommendation_stands_everywhere() -> None:
    assert PERMISSIONS in COMMANDS.convenient
    root = Path(__file__).parents[2]
    for page in ("docs/installation.rst", "docs/quick_start.rst"):
        text = re.sub(r"\\\n +", "", (root / page).read_text(encoding="utf-8"))
        assert f"rabbitmqctl set_permissions -p / robot {PERMISSIONS}\n" in text, page
    passwords = re.compile(
        r"rabbitmqctl (?:--?\S+ )*(?:add_user|change_password|authenticate_user)"
        r" +[^\s`,;<]+ +[\w'\"$]"
    )
    for path in (*root.glob("*.rst"), *root.glob("docs/*.rst"), *root.glob("examples/**/*.py")):
        text = path.read_text(encoding="utf-8")
        # Messages are prose: "change_password robot sets another".
        assert path.name == "messages.rst" or not passwords.search(text), path
        assert '".*" ".*" ".*"' not in text, path


@pytest.mark.parametrize("rights", ["convenient", "narrow", "narrow and limited"])
def test_charts_and_snoops_work_with_the_rights_of_the_page(
    rights: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node: LocalBroker = request.getfixturevalue(rights.split()[0])
    if "limited" in rights:
        run(node, COMMANDS.limits, tmp_path)
    if rights != "convenient":
        assert exchanges_of(node) == EXCHANGES
    lines: list[str] = []
    one, _ = chart_of(node, "one", on_spy_rx=lambda _, line: lines.append(line))
    other, heard = chart_of(node, "other")
    for chart in (one, other):
        chart.nets.enable_snoop_spy()
        chart.nets.enable_snoop_trace()
    with running(one, other):
        for number in range(20):
            one.transmit(Event(signal="ALLOWED", payload=number))
        heard.wait_for(20, 20)

        def is_snooped() -> bool:
            one.transmit(Event(signal="ALLOWED"))
            return any("ALLOWED" in line for line in lines)

        wait_until(is_snooped, 20)
        assert one.nets.flush(scaled(25))
        # Whatever is declared again now and then is allowed, too.
        queue = other.nets.stats().mesh.queue
        with admin_of(node) as channel:
            channel.queue_unbind(queue, "miros.mesh", "miros.mesh")

        def is_bound_again() -> bool:
            one.transmit(Event(signal="AGAIN"))
            return bool(heard.payloads("AGAIN"))

        wait_until(is_bound_again, 20)
        if rights != "convenient":
            assert exchanges_of(node) == EXCHANGES
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert not [one for one in warnings if "permission" in one.getMessage()]


ATTEMPTS_ON_EXCHANGES: dict[str, Callable[[Any], object]] = {
    "delete the mesh": lambda channel: channel.exchange_delete("miros.mesh"),
    "replace a snoop": lambda channel: (
        channel.exchange_delete("miros.snoop.spy"),
        channel.exchange_declare("miros.snoop.spy", "fanout", durable=True),
    ),
    "delete the markers": lambda channel: channel.exchange_delete("miros.markers"),
    "declare another of ours": lambda channel: channel.exchange_declare("miros.more", "topic"),
}


def test_only_the_narrower_rights_keep_the_exchanges(
    convenient: LocalBroker, tmp_path: Path
) -> None:
    for what, attempt in ATTEMPTS_ON_EXCHANGES.items():
        with admin_of(convenient) as channel:
            for name, kind in EXCHANGES.items():
                channel.exchange_declare(name, kind, durable=True)
        assert refused(attempt, convenient) == "", what
        with admin_of(convenient) as channel:
            for name in ("miros.snoop.spy", "miros.more"):
                channel.exchange_delete(name)
    run(convenient, COMMANDS.narrow, tmp_path)
    for what, attempt in ATTEMPTS_ON_EXCHANGES.items():
        assert "ACCESS_REFUSED" in refused(attempt, convenient), what
    assert exchanges_of(convenient) == EXCHANGES


ALWAYS_REFUSED: dict[str, Callable[[Any], object]] = {
    "publish into a queue": lambda channel: (
        channel.confirm_delivery(),
        channel.basic_publish("", VICTIM, b"x", mandatory=True),
    ),
    "publish by an exchange of all": lambda channel: (
        channel.confirm_delivery(),
        channel.basic_publish("amq.topic", "key", b"x"),
    ),
    "hear an exchange of all": lambda channel: (
        channel.queue_declare(OWN),
        channel.queue_bind(OWN, "amq.topic", "#"),
    ),
    "a queue with another name": lambda channel: channel.queue_declare("mine"),
    "an exchange with another name": lambda channel: channel.exchange_declare("mine", "fanout"),
    "dead letters to another exchange": lambda channel: channel.queue_declare(
        "miros." + "d" * 22, arguments={"x-dead-letter-exchange": "amq.topic"}
    ),
    "another exchange as the alternate": lambda channel: channel.exchange_declare(
        OWN, "fanout", arguments={"alternate-exchange": "amq.topic"}
    ),
    "consume beside a chart": lambda channel: channel.basic_consume(VICTIM, lambda *_: None),
}


def test_what_both_rights_refuse(convenient: LocalBroker, tmp_path: Path) -> None:
    with admin_of(convenient) as channel:
        channel.queue_declare(VICTIM, durable=True)
        channel.basic_consume(VICTIM, lambda *_: None, exclusive=True)
        for what, attempt in ALWAYS_REFUSED.items():
            assert "ACCESS_REFUSED" in refused(attempt, convenient), what
        run(convenient, COMMANDS.narrow, tmp_path)
        for what, attempt in ALWAYS_REFUSED.items():
            assert "ACCESS_REFUSED" in refused(attempt, convenient), what


def test_the_names_of_queues_are_those_that_the_narrower_rights_allow(narrow: LocalBroker) -> None:
    for name in (OWN, "miros._-" + "0" * 20, ""):
        assert refused(lambda channel, name=name: channel.queue_declare(name), narrow) == ""  # type: ignore[misc]
    for name in ("miros.mesh", "miros.short", OWN + "x", f"{OWN}.more", "a" + OWN):
        assert "ACCESS_REFUSED" in refused(
            lambda channel, name=name: channel.queue_declare(name),  # type: ignore[misc]
            narrow,
        ), name


def test_what_remains_possible_with_the_narrower_rights(narrow: LocalBroker) -> None:
    with admin_of(narrow) as channel:
        channel.queue_declare(VICTIM, durable=True)
        channel.basic_consume(VICTIM, lambda *_: None, exclusive=True)
        for attempt in (
            lambda channel: channel.exchange_bind("miros.mesh", "miros.snoop.spy", "#"),
            lambda channel: channel.exchange_declare(OWN, "fanout"),
            # By the name of the queue:
            lambda channel: channel.basic_get(VICTIM),
            lambda channel: channel.queue_purge(VICTIM),
            lambda channel: channel.queue_delete(VICTIM),
        ):
            assert refused(attempt, narrow) == ""
    assert "miros.snoop.spy\texchange\tmiros.mesh\texchange" in narrow.ctl("list_bindings")


def test_queues_that_send_on_what_they_get_multiply_each_event(narrow: LocalBroker) -> None:
    """As the page says: each message goes along each path that has no queue twice."""
    with admin_of(narrow) as admin, channel_of(narrow) as channel:
        admin.queue_declare(VICTIM, durable=True)
        admin.queue_bind(VICTIM, "miros.mesh", "#")
        arguments = {"x-message-ttl": 0, "x-dead-letter-exchange": "miros.mesh"}
        for number in range(3):
            name = f"miros.{number:022d}"
            channel.queue_declare(name, arguments=arguments)
            channel.queue_bind(name, "miros.mesh", "#")
        admin.basic_publish("miros.mesh", "key", b"x")

        def count() -> int:
            return int(admin.queue_declare(VICTIM, passive=True).method.message_count)

        wait_until(lambda: count() == 16)
    assert "x-dead-letter-exchange" in narrow.ctl("list_queues", "name", "arguments")


def test_nothing_limits_exchanges_and_bindings(narrow: LocalBroker, tmp_path: Path) -> None:
    run(narrow, COMMANDS.limits, tmp_path)
    with channel_of(narrow) as channel:
        channel.queue_declare(OWN)
        for number in range(300):
            channel.exchange_declare(f"miros.{number:022d}", "direct")
            channel.queue_bind(OWN, "miros.mesh", f"key.{number}")
        assert len(exchanges_of(narrow)) == len(EXCHANGES) + 300
        assert narrow.ctl("list_bindings", "routing_key").count("key.") == 300
        channel.queue_delete(OWN)
    assert narrow.ctl("list_bindings", "routing_key").count("key.") == 0
    assert len(exchanges_of(narrow)) == len(EXCHANGES) + 300


# Limits.


def fill(node: LocalBroker, arguments: dict[str, Any], messages: int = 80) -> tuple[int, int]:
    """Let a queue that nobody reads take every event; gives its bytes, and what was nacked."""
    nacked = 0
    with channel_of(node) as channel:
        channel.confirm_delivery()
        channel.queue_declare(OWN, durable=True, arguments=arguments)
        channel.queue_bind(OWN, "miros.mesh", "#")
        for _ in range(messages):
            try:
                channel.basic_publish("miros.mesh", "any.key", bytes(1_000_000))
            except pika.exceptions.NackError:
                nacked += 1

    def size() -> int:
        listed = node.ctl("list_queues", "name", "message_bytes").split()
        return int(listed[listed.index(OWN) + 1])

    if "x-queue-type" in arguments:
        return 0, nacked  # it does not tell its bytes
    return wait_until(size), nacked


def test_the_policy_bounds_every_queue_that_a_thief_fills(
    narrow: LocalBroker, tmp_path: Path
) -> None:
    assert fill(narrow, {})[0] == 80_000_000
    with admin_of(narrow) as channel:
        channel.queue_delete(OWN)
    run(narrow, COMMANDS.limits, tmp_path)
    size, nacked = fill(narrow, {"x-max-length-bytes": 10**12, "x-expires": 10**9})
    assert 60_000_000 < size <= 64 * 1024 * 1024
    assert nacked == 0
    with admin_of(narrow) as channel:
        channel.queue_delete(OWN)
    # But it does not change what a full queue does.
    size, nacked = fill(narrow, {"x-overflow": "reject-publish"})
    assert size <= 64 * 1024 * 1024 + 1_000_000
    assert nacked > 0
    # RabbitMQ 3 takes no such policy; on RabbitMQ 4, the argument of a queue goes before it.
    policy = '{"overflow": "drop-head", "max-length-bytes": 67108864}'
    with contextlib.suppress(LocalBrokerError):
        narrow.ctl("set_operator_policy", "-p", "/", "--priority", "9", "all", ".*", policy)
    with admin_of(narrow) as channel:
        channel.queue_delete(OWN)
    size, nacked = fill(narrow, {"x-overflow": "reject-publish"})
    assert size <= 64 * 1024 * 1024 + 1_000_000
    assert nacked > 0


def test_the_policy_deletes_queues_that_nobody_uses(narrow: LocalBroker, tmp_path: Path) -> None:
    soon = COMMANDS.limits.replace('"expires": 60000', '"expires": 1000')
    assert soon != COMMANDS.limits
    run(narrow, soon, tmp_path)
    with channel_of(narrow) as channel:
        channel.queue_declare(OWN, durable=True)
        quorum = "miros." + "q" * 22
        channel.queue_declare(quorum, durable=True, arguments={"x-queue-type": "quorum"})
        wait_until(lambda: not narrow.ctl("list_queues", "name").split(), 20)


def test_the_limits_bound_queues_channels_and_connections(
    narrow: LocalBroker, tmp_path: Path
) -> None:
    few = re.sub(r'"(max-\w+)": \d00', r'"\1": 3', COMMANDS.limits)
    assert few.count(": 3") == 4
    run(narrow, few, tmp_path)

    def many_queues(channel: Any) -> None:
        for number in range(5):
            channel.queue_declare(f"miros.{number:022}")

    assert "limit" in refused(many_queues, narrow)

    def many_channels(channel: Any) -> None:
        for _ in range(4):
            channel.connection.channel()

    assert "channels" in refused(many_channels, narrow)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(channel_of(narrow))
        with pytest.raises(pika.exceptions.AMQPConnectionError, match="limit"):
            stack.enter_context(channel_of(narrow))


def test_topic_permissions_let_a_machine_send_and_hear_only_what_is_its_own(
    narrow: LocalBroker, tmp_path: Path
) -> None:
    run(narrow, COMMANDS.topics, tmp_path)
    keys = {"tx_routing_key": "kitchen.heater", "rx_routing_key": "kitchen.#"}
    one, _ = chart_of(narrow, "one", **keys)
    other, heard = chart_of(narrow, "other", **keys)
    with running(one, other):
        one.transmit(Event(signal="WARM"))
        heard.wait_for(1)
    for attempt in (
        lambda channel: (
            channel.queue_declare(OWN),
            channel.queue_bind(OWN, "miros.mesh", "#"),
        ),
        lambda channel: (
            channel.confirm_delivery(),
            channel.basic_publish("miros.mesh", "cellar.pump", b"x"),
        ),
    ):
        assert "access to topic" in refused(attempt, narrow)


# Exchanges that are missing, or of another type.


def shell(node: LocalBroker, command: str) -> None:
    """Run a command that is recommended, as a shell does, with a folder of ours for RabbitMQ's."""
    assert node.log_path is not None
    command = command.replace("/etc/rabbitmq/", f"{node.log_path.parent}/")
    words, _, program = command.rpartition("; ")
    name, *arguments = shlex.split(program)
    assert name == "rabbitmqctl"
    if words:
        subprocess.run(["sh", "-c", words], check=True)
    node.ctl(*arguments)


def test_a_missing_exchange_is_told_with_the_command_that_declares_it(
    narrow: LocalBroker,
) -> None:
    with admin_of(narrow) as channel:
        channel.exchange_delete("miros.mesh")
    chart, _ = chart_of(narrow)
    with pytest.raises(AccessRefused) as caught:
        chart.start_at(listening)
    words = str(caught.value)
    assert "there is no exchange 'miros.mesh'" in words
    command = declare_exchange("miros.mesh", "/")
    assert words.endswith(f"; or, if the user is to declare queues only: {command}")
    shell(narrow, command)
    assert exchanges_of(narrow) == EXCHANGES
    with running(chart):
        wait_until(lambda: chart.nets.stats().mesh.consumer is SessionState.READY)


def test_an_exchange_that_is_deleted_while_charts_run_is_said_and_found_again(
    narrow: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    chart, _ = chart_of(narrow)
    with running(chart):
        shell(narrow, delete_exchange("miros.mesh", "/"))
        assert "miros.mesh" not in exchanges_of(narrow)
        wait_until(lambda: "there is no exchange 'miros.mesh'" in caplog.text, 20)
        shell(narrow, declare_exchange("miros.mesh", "/"))
        wait_until(lambda: chart.nets.stats().mesh.consumer is SessionState.READY, 20)
        chart.transmit(Event(signal="X"))
        assert chart.nets.flush(scaled(25))


def test_rights_that_become_narrower_while_charts_run_stop_none(
    convenient: LocalBroker, tmp_path: Path
) -> None:
    one, _ = chart_of(convenient, "one")
    other, heard = chart_of(convenient, "other")
    with running(one, other):
        run(convenient, COMMANDS.narrow, tmp_path)
        convenient.ctl("close_all_connections", "the rights have changed")
        for number in range(50):
            one.transmit(Event(signal="N", payload=number))
        wait_until(lambda: heard.payloads("N")[-1:] == [49], 20)
        assert heard.payloads("N") == sorted(set(heard.payloads("N")))


@pytest.mark.parametrize("kind", ["fanout", "direct", "headers"])
def test_a_wrong_type_is_told_with_what_mends_it_where_the_user_may_declare(
    convenient: LocalBroker, kind: str
) -> None:
    with channel_of(convenient) as channel:  # a thief
        channel.exchange_declare("miros.mesh", kind, durable=True)
    chart, heard = chart_of(convenient)
    other, _ = chart_of(convenient, "other")
    command = delete_exchange("miros.mesh", "/")
    with running(chart, other):
        fault = wait_until(lambda: chart.nets.stats().mesh.consumer_fault, 20)
        assert "already has the exchange 'miros.mesh', declared with another type" in fault
        assert command in fault
        shell(convenient, command)
        assert chart.nets.wait_for_peers(0, scaled(25))
        wait_until(lambda: chart.nets.stats().mesh.consumer is SessionState.READY, 20)
        wait_until(lambda: exchanges_of(convenient).get("miros.mesh") == "topic", 20)

        def is_heard() -> bool:
            other.transmit(Event(signal="AGAIN"))
            return bool(heard.payloads("AGAIN"))

        wait_until(is_heard, 20)


def test_a_direct_exchange_is_told_by_what_comes_back_where_the_user_may_not_declare(
    narrow: LocalBroker,
) -> None:
    with admin_of(narrow) as channel:
        channel.exchange_delete("miros.mesh")
        channel.exchange_declare("miros.mesh", "direct", durable=True)
    told: list[DeliveryProblem] = []
    keys = {"tx_routing_key": "kitchen.heater", "rx_routing_key": "kitchen.#"}
    chart, _ = chart_of(narrow, on_delivery_problem=told.append, **keys)
    delete = delete_exchange("miros.mesh", "/")
    declare = declare_exchange("miros.mesh", "/")

    def said() -> list[str]:
        chart.transmit(Event(signal="X"))
        return [one.text for one in told if "is not of the type topic" in one.text]

    with running(chart):
        (text,) = wait_until(said, 30)
        assert {one.kind for one in told if one.text == text} == {ProblemKind.UNHEARD}
        assert text.endswith(f"On the broker run as root: {delete}; {declare}")
        shell(narrow, delete)
        shell(narrow, declare)
        confirmed = chart.nets.stats().mesh.own

        def hears_itself() -> bool:
            chart.transmit(Event(signal="X"))
            return bool(chart.nets.stats().mesh.own > confirmed)

        wait_until(hears_itself, 20)


@pytest.mark.parametrize("kind", ["fanout", "headers"])
def test_what_gives_each_queue_everything_is_told_by_what_comes_for_others(
    narrow: LocalBroker, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A headers exchange does so, too, as our bindings ask for no header."""
    with admin_of(narrow) as channel:
        channel.exchange_delete("miros.mesh")
        channel.exchange_declare("miros.mesh", kind, durable=True)
    chart, _ = chart_of(narrow, rx_routing_key="kitchen.#")
    other, _ = chart_of(narrow, "other", tx_routing_key="cellar.pump")
    with running(chart, other):
        other.transmit(Event(signal="X"))
        wait_until(lambda: "the exchange is not of the type topic" in caplog.text, 20)
        assert "rabbitmqctl list_exchanges name type" in caplog.text
