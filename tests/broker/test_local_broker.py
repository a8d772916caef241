"""LocalBroker on real nodes. Tests that do not hurt a node share ``broker_a``."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pika
import pytest

from miros_rabbitmq.broker import local_broker, node_files, node_process
from miros_rabbitmq.broker.local_broker import LocalBroker
from miros_rabbitmq.broker.node_process import NodeProcess
from miros_rabbitmq.exceptions import LocalBrokerError, SettingsError
from miros_rabbitmq.testing import BrokerFactory
from miros_rabbitmq.urls import AmqpUrl
from tests.examples.terminal import on_terminal
from tests.helpers import end_child, processes_with, scaled, wait_until

ROOT = Path(__file__).parents[2]

ANSWER_S = scaled(10)

OWNER = """
import sys
from miros_rabbitmq.broker.local_broker import LocalBroker

broker = LocalBroker("127.0.0.4")
broker.start()
print(broker.port, broker.ctl("eval", "os:getpid().").strip().strip('"'), broker.log_path.parent)
sys.stdout.flush()
sys.stdin.read()
"""


def connect(url: AmqpUrl) -> pika.BlockingConnection:
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.blocked_connection_timeout = ANSWER_S
    return pika.BlockingConnection(parameters)


def is_listening(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(ANSWER_S)
        return probe.connect_ex((host, port)) == 0


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_its_user_can_log_in_and_only_with_the_password(broker_a: LocalBroker) -> None:
    connect(broker_a.url()).close()
    wrong = AmqpUrl(broker_a.url().replace(broker_a.password, "wrong"))
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(wrong)


def test_it_listens_only_on_its_own_address(broker_a: LocalBroker, broker_b: LocalBroker) -> None:
    assert is_listening(broker_a.host, broker_a.port)
    assert not is_listening(broker_b.host, broker_a.port)
    assert not is_listening("127.0.0.1", broker_a.port)


def test_rabbitmqctl_answers_and_its_failures_are_errors(broker_a: LocalBroker) -> None:
    assert broker_a.ctl("list_vhosts").split() == ["/"]
    with pytest.raises(LocalBrokerError, match=r"no_such_command.*not found"):
        broker_a.ctl("no_such_command")
    with pytest.raises(LocalBrokerError, match=r"list_queues on .* gave no answer within 0\.01 s"):
        broker_a.ctl("list_queues", timeout=0.01)


def test_no_password_is_shown(broker_a: LocalBroker) -> None:
    assert broker_a.password not in repr(broker_a)
    assert broker_a.password not in broker_a.log_path.read_text()


def test_two_nodes_boot_at_once_and_data_survives_a_restart(
    broker_factory: BrokerFactory,
) -> None:
    with ThreadPoolExecutor(2) as pool:
        started = pool.submit(broker_factory, "127.0.0.4", vhosts=("/", "a b/c"))
        other = pool.submit(broker_factory, "127.0.0.4", users={"guest 2": "p@ss/w:rd"})
        broker, second = started.result(), other.result()
    assert broker.port != second.port
    connect(broker.url("a b/c")).close()

    second.user, second.password = "guest 2", "p@ss/w:rd"
    connect(second.url()).close()

    connection = connect(broker.url())
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True)
    channel.basic_publish(
        "", "kept", b"persistent", pika.BasicProperties(delivery_mode=2), mandatory=True
    )
    broker.ctl("add_user", "late", stdin="comer")
    port, folder = broker.port, broker.log_path.parent
    broker.kill()
    assert not broker.is_running
    assert not is_listening(broker.host, port)
    with pytest.raises(LocalBrokerError, match="not running"):
        broker.ctl("list_vhosts")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connection.process_data_events(ANSWER_S)

    broker.restart()
    assert broker.port == port
    connection = connect(broker.url())
    _, _, body = connection.channel().basic_get("kept", auto_ack=True)
    assert body == b"persistent"
    assert "late" in broker.ctl("list_users")

    # A paused node holds its connections and answers nothing until it goes on.
    broker.pause()
    assert broker.is_running
    with socket.socket() as client:
        client.settimeout(0.3)
        client.connect(broker.address)
        client.sendall(b"AMQP\0\0\x09\x01")
        with pytest.raises(TimeoutError):
            client.recv(1)
        broker.resume()
        client.settimeout(ANSWER_S)
        assert client.recv(1) == b"\x01"
    connection.close()

    broker.pause()
    broker.stop()
    broker.stop()
    assert not folder.exists()
    assert not is_listening(broker.host, port)
    with pytest.raises(LocalBrokerError, match="not started"):
        broker.restart()


def running_nodes(broker: LocalBroker) -> set[str]:
    return set(json.loads(broker.ctl("cluster_status", "--formatter", "json"))["running_nodes"])


@pytest.mark.timeout(300)  # six starts and two joins
def test_nodes_form_a_cluster_and_find_each_other_again(broker_factory: BrokerFactory) -> None:
    first = broker_factory("127.0.0.4", user="anna", vhosts=("/", "house"))
    second = broker_factory("127.0.0.9", joins=first)
    both = {f"{broker.name}@{broker.host}" for broker in (first, second)}
    assert running_nodes(first) == running_nodes(second) == both
    # It is one broker: what the second one has, clients of the first one reach.
    assert (second.user, second.password) == ("anna", first.password)
    at_second = connect(second.url("house"))
    at_second.channel().queue_declare("there", durable=True)
    at_first = connect(first.url("house"))
    at_first.channel().basic_publish("", "there", b"across")
    wait_until(lambda: at_second.channel().basic_get("there", auto_ack=True)[2] == b"across")
    for connection in (at_first, at_second):
        connection.close()
    assert "miros" not in second.ctl("list_users"), "it has brought no users of its own"

    for broker in (second, first):
        broker.kill()
        broker.restart()
        wait_until(lambda: running_nodes(first) == running_nodes(second) == both)
    # A new, empty one takes the place of the one that was stopped.
    second.stop()
    second.start()
    assert running_nodes(first) == both
    connect(second.url("house")).close()


def test_a_node_joins_none_that_does_not_run(rabbitmq_installed: None) -> None:
    first = LocalBroker("127.0.0.4", name="one")
    other = LocalBroker("127.0.0.9", name="two", joins=first)
    with pytest.raises(LocalBrokerError, match="two cannot join one, which is not running"):
        other.start()


def test_a_node_does_not_stay_alone_if_it_cannot_reach_the_other_one(
    broker_factory: BrokerFactory,
) -> None:
    first = broker_factory("127.0.0.4", name="one")
    (first.log_path.parent / ".erlang.cookie").write_text("another one")
    other = LocalBroker("127.0.0.9", name="two", joins=first)
    with pytest.raises(LocalBrokerError, match="rabbitmqctl join_cluster on two failed"):
        other.start()
    assert not other.is_running


@pytest.mark.parametrize(
    ("host", "arguments", "message"),
    [
        ("127.0.0.4", {}, "a loopback address of its own.*not 127.0.0.4 beside 127.0.0.4"),
        ("192.0.2.1", {}, "not 192.0.2.1 beside 127.0.0.4"),
        ("127.0.0.9", {"user": "anna"}, "leave out user="),
        ("127.0.0.9", {"password": "secret"}, "leave out user=, password="),
        ("127.0.0.9", {"users": {"anna": "secret"}}, "users="),
        ("127.0.0.9", {"vhosts": ["house"]}, "vhosts="),
        ("127.0.0.9", {"joins": "127.0.0.4"}, "joins is a LocalBroker, not a str"),
    ],
)
def test_what_cannot_join_is_refused(host: str, arguments: dict[str, object], message: str) -> None:
    keywords: dict[str, Any] = {"joins": LocalBroker("127.0.0.4"), **arguments}
    with pytest.raises(SettingsError, match=message):
        LocalBroker(host, **keywords)


def test_it_does_not_outlive_an_owner_that_was_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        port, process, folder = owner.stdout.readline().split()
        assert is_alive(int(process))
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(int(process)), 10, "the node ends")
    wait_until(lambda: not Path(folder).exists(), 10, "its folder goes")
    # Its main thread may end a moment before the last thread, which closes the port.
    wait_until(lambda: not is_listening("127.0.0.4", int(port)), 10, "its port is closed")


def test_it_ends_with_a_program_that_forgets_to_stop_it() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        _, process, folder = owner.stdout.readline().split()
        owner.stdin.close()  # which ends the program
        assert owner.wait(scaled(25)) == 0
        assert not is_alive(int(process))
        assert not Path(folder).exists()


IN_A_TERMINAL = """
from miros_rabbitmq import LocalBroker

print("starts", flush=True)
with LocalBroker("127.0.0.4") as broker:
    print("is up", flush=True)
    while True:
        broker.ctl("list_queues")
"""


@pytest.mark.parametrize("presses", [1, 2, 6])
@pytest.mark.parametrize("moment", ["starts", "is up"])
def test_ctrl_c_in_a_terminal_leaves_nothing_behind(moment: str, presses: int) -> None:
    """While the node starts, runs and stops: one Ctrl-C, or several, one right after the other."""
    draw = random.Random(f"{moment} {presses}")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        with on_terminal([sys.executable, "-c", IN_A_TERMINAL], environment, ROOT) as program:
            program.read_until(moment)
            time.sleep(draw.uniform(0, 2))
            for _ in range(presses):
                program.press(b"\x03")
                time.sleep(draw.uniform(0, 0.3))
            program.read_until(None)
            assert program.process.wait(scaled(30)) == -signal.SIGINT
        # The second is how Python ends that is interrupted while it prints the traceback.
        ends = ("KeyboardInterrupt", "lost sys.stderr")
        assert program.output.replace("^C", "").rstrip().endswith(ends if presses > 1 else ends[0])
        assert "Exception ignored" not in program.output
        # The program may end a moment before the watchdog, if it was hurried.
        wait_until(lambda: not os.listdir(folder), 15, "the folder of the node goes")
        wait_until(lambda: not processes_with(folder), 15, lambda: str(processes_with(folder)))


@pytest.mark.parametrize("end", [LocalBroker.stop, LocalBroker.kill])
def test_a_boot_in_another_thread_is_ended_at_once(end: Callable[[LocalBroker], None]) -> None:
    broker = LocalBroker("127.0.0.4")
    with ThreadPoolExecutor(1) as pool:
        booting = pool.submit(broker.start)
        wait_until(lambda: broker.is_running, 10, "the node's process starts")
        folder = broker.log_path.parent
        started = time.monotonic()
        end(broker)
        took = time.monotonic() - started
        with pytest.raises(LocalBrokerError, match="was stopped while it booted"):
            booting.result(ANSWER_S)
    assert took < scaled(4)
    assert not broker.is_running
    assert not folder.exists()
    # This ends only that boot: the next one may take its time.
    with pytest.raises(LocalBrokerError, match="was not ready in time"):
        broker.start(timeout=0.01)


def test_a_forked_child_leaves_the_parents_node_alone(broker_a: LocalBroker) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover
        running = broker_a.is_running
        broker_a.stop()
        end_child(1 if running else 0)
    assert os.waitpid(child, 0)[1] == 0
    connect(broker_a.url()).close()


def test_a_start_says_what_it_waits_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "miros_rabbitmq.broker")
    monkeypatch.setattr(node_process, "SLOW_AFTER_S", 0.1)
    monkeypatch.setattr(local_broker, "is_loopback", lambda _: False)
    with LocalBroker("127.0.0.4", name="slow") as broker:
        address = broker.address
    node = f"the private RabbitMQ node slow on {address}"
    said = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert said[0] == ("INFO", f"{node} is being started, which takes some seconds")
    level, words = said[1]
    assert level == "WARNING"
    assert words.startswith(f"{node} has been starting for 0 s: this machine is slow or busy. The ")
    assert words.endswith("may take 60 s (the timeout of start)")
    level, words = said[2]
    assert level == "INFO"
    assert re.fullmatch(re.escape(node) + r" is ready after \d+\.\d s", words)
    assert said[3:] == [
        (
            "WARNING",
            f"{node} can be reached from other machines; an address of 127.0.0.0/8 would keep it "
            "to this machine",
        )
    ]


def test_a_missing_rabbitmq_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_files, "PROGRAM_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LocalBrokerError, match="apt-get install rabbitmq-server"):
        LocalBroker().start()


def test_a_rabbitmq_in_the_working_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "rabbitmq-server"
    planted.write_text("#!/bin/sh\ntouch it-ran\n")
    planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(node_files, "PROGRAM_FOLDERS", ())
    monkeypatch.setenv("PATH", ":.")
    with pytest.raises(LocalBrokerError, match="rabbitmq-server is not installed"):
        LocalBroker().start()


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_node_has_no_folder_where_others_could_put_another_in_its_place(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    process = NodeProcess()
    try:
        assert process.folder.parent != tmp_path
        assert process.folder.stat().st_mode & 0o777 == 0o700
    finally:
        process.end(0)
    monkeypatch.setattr("miros_rabbitmq.broker.node_process._USUAL_FOLDERS", ())
    with pytest.raises(LocalBrokerError, match="in which others can replace a folder"):
        NodeProcess()


def test_what_is_secret_of_a_node_is_for_its_user_alone(broker_a: LocalBroker) -> None:
    folder = broker_a.log_path.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in (".erlang.cookie", "definitions.json", "rabbitmq.conf"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_a_node_that_cannot_start_shows_its_log() -> None:
    broker = LocalBroker("127.0.0.4", config={"no.such.setting": "1"})
    with pytest.raises(LocalBrokerError, match=r"no\.such\.setting") as raised:
        broker.start()
    assert "ended while it started; the end of its log:" in str(raised.value)
    assert not broker.is_running


@pytest.mark.parametrize(
    "arguments",
    [{"host": "localhost"}, {"port": 0}, {"name": "a@b"}, {"vhosts": "/"}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(arguments))):
        LocalBroker(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["a b", "ümläut", "it's", 'q"q', "per%cent", "$(reboot)", "x" * 90, "#;&{}~\\"]
)
def test_a_node_runs_whatever_the_folder_for_temporary_files_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(odd))
    process = NodeProcess()
    try:
        folder = os.fspath(process.folder)
        assert re.fullmatch(r"[\w./+-]{1,90}", folder, re.ASCII)
    finally:
        process.end(0)
    assert not process.folder.exists()
    assert not list(odd.iterdir())


def test_a_node_boots_and_is_controlled_where_the_folder_has_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b 'c"
    odd.mkdir()
    monkeypatch.setenv("TMPDIR", os.fspath(odd))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with LocalBroker("127.0.0.46") as broker:
        assert broker.ctl("list_vhosts").split() == ["/"]


def test_without_any_plain_folder_the_error_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(odd))
    monkeypatch.setattr("miros_rabbitmq.broker.node_process._USUAL_FOLDERS", ())
    with pytest.raises(LocalBrokerError, match="set TMPDIR to a plain path"):
        LocalBroker("127.0.0.46").start()


def test_a_port_that_is_in_use_is_said_at_once_and_in_a_line() -> None:
    with socket.create_server(("127.0.0.5", 0)) as other:
        port = other.getsockname()[1]
        broker = LocalBroker("127.0.0.5", port=port)
        with pytest.raises(LocalBrokerError) as caught:
            broker.start()
        said = str(caught.value)
        assert said.startswith(f"127.0.0.5:{port} is in use by another program")
        assert "\n" not in said
    assert not broker.is_running
    broker.stop()


def test_an_address_of_another_machine_is_said_at_once() -> None:
    with pytest.raises(
        LocalBrokerError, match=r"cannot listen on 192\.0\.2\.1:5673: Cannot assign"
    ):
        LocalBroker("192.0.2.1", port=5673).start()
