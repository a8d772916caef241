"""Names become addresses: one look-up at a time for each name, and nobody is held up by it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from miros_rabbitmq.resolve import LookUp, Resolver, Target, look_up, resolve
from miros_rabbitmq.urls import Address
from tests.helpers import scaled, wait_until


class NameServer:
    """Answers in place of the system's resolver; hangs while it is not `answering`."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {"robot": ["10.0.0.7"]}
        self.asked: list[str] = []
        self.answering = threading.Event()
        self.answering.set()

    def __call__(self, host: str, port: object, **_: object) -> list[object]:
        self.asked.append(host)
        assert self.answering.wait(scaled(20))
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.known[host]]


class Answers:
    """A callback that keeps its answers, and in which thread they came."""

    def __init__(self) -> None:
        self.found: list[list[Target] | OSError] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, found: list[Target] | OSError) -> None:
        self.threads.append(threading.current_thread())
        self.found.append(found)

    def only(self) -> list[Target] | OSError:
        """Wait for the only answer."""
        wait_until(lambda: self.found, 20, "an answer")
        (found,) = self.found
        return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.answering.set()
    wait_until(lambda: not threads(), 20, "the end of the look-ups")


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("miros-rabbitmq-resolve")]


def test_the_answer_comes_in_a_daemon_thread(server: NameServer) -> None:
    server.known["robot"] = ["10.0.0.7", "10.0.0.8"]
    answers = Answers()
    look_up(Address("robot", 5673), answers)
    assert answers.only() == [
        Target(socket.AF_INET, "10.0.0.7", 5673),
        Target(socket.AF_INET, "10.0.0.8", 5673),
    ]
    (thread,) = answers.threads
    assert thread.daemon
    assert thread is not threading.current_thread()


def test_of_thousands_of_addresses_only_the_first_are_used(server: NameServer) -> None:
    """Each attempt to connect would try them all."""
    server.known["robot"] = [f"10.0.{number // 250}.{number % 250}" for number in range(4_000)]
    answers = Answers()
    look_up(Address("robot"), answers)
    found = answers.only()
    assert isinstance(found, list)
    assert [one.ip for one in found] == server.known["robot"][:8]


@pytest.mark.parametrize(
    ("ip", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_an_ip_address_is_its_own_answer_at_once(
    server: NameServer, ip: str, family: socket.AddressFamily
) -> None:
    answers = Answers()
    question = look_up(Address(ip, 5673), answers)
    assert answers.found == [[Target(family, ip, 5673)]]
    assert answers.threads == [threading.current_thread()]
    assert not question.cancel()
    assert not server.asked


def test_a_link_local_address_is_behind_its_interface(server: NameServer) -> None:
    answers, lost = Answers(), Answers()
    look_up(Address("fe80::1%lo", 5673), answers)
    scope = socket.if_nametoindex("lo")
    assert answers.found == [[Target(socket.AF_INET6, "fe80::1", 5673, scope)]]
    assert isinstance(answers.found[0], list)
    assert answers.found[0][0].socket_address == ("fe80::1", 5673, 0, scope)
    look_up(Address("fe80::1%no-such-one"), lost)
    (error,) = lost.found
    assert isinstance(error, OSError)
    assert "there is no interface no-such-one" in str(error)
    assert not server.asked


def test_callers_who_ask_meanwhile_share_one_look_up(server: NameServer) -> None:
    server.answering.clear()
    several = [Answers() for _ in range(5)]
    for port, answers in enumerate(several, start=5672):
        look_up(Address("robot", port), answers)
    assert len(threads()) == 1
    server.answering.set()
    for port, answers in enumerate(several, start=5672):
        assert answers.only() == [Target(socket.AF_INET, "10.0.0.7", port)]
    assert server.asked == ["robot"]


def test_a_name_is_looked_up_anew_once_it_was_answered(server: NameServer) -> None:
    first, second = Answers(), Answers()
    look_up(Address("robot"), first)
    first.only()
    server.known["robot"] = ["10.0.0.99"]
    look_up(Address("robot"), second)
    assert second.only() == [Target(socket.AF_INET, "10.0.0.99", 5672)]
    assert server.asked == ["robot", "robot"]


def test_two_names_do_not_wait_for_each_other(server: NameServer) -> None:
    server.answering.clear()
    for name in ("robot", "other"):
        look_up(Address(name), Answers())
    wait_until(lambda: sorted(server.asked) == ["other", "robot"], 20, "both look-ups")


def test_a_name_that_hangs_takes_one_thread_however_often_callers_try(server: NameServer) -> None:
    server.answering.clear()
    for _ in range(20):
        look_up(Address("robot"), Answers()).cancel()
    assert len(threads()) == 1
    patient = Answers()
    look_up(Address("robot"), patient)
    server.answering.set()
    assert patient.only() == [Target(socket.AF_INET, "10.0.0.7", 5672)]
    assert server.asked == ["robot"]


def test_a_caller_who_cancels_gets_no_answer(server: NameServer) -> None:
    server.answering.clear()
    impatient, patient = Answers(), Answers()
    question = look_up(Address("robot"), impatient)
    look_up(Address("robot"), patient)
    assert question.cancel()
    assert not question.cancel()
    server.answering.set()
    patient.only()
    wait_until(lambda: not threads(), 20, "the end of the look-up")
    assert not impatient.found


def test_a_callback_may_cancel_others_and_ask_again(server: NameServer) -> None:
    server.answering.clear()
    second, third = Answers(), Answers()
    questions: list[LookUp] = []

    def first(found: list[Target] | OSError) -> None:
        assert questions[1].cancel()
        look_up(Address("robot"), third)

    questions.append(look_up(Address("robot"), first))
    questions.append(look_up(Address("robot"), second))
    server.answering.set()
    third.only()
    assert not questions[0].cancel()
    assert not second.found


def test_each_caller_gets_its_own_error_for_an_unknown_name(server: NameServer) -> None:
    server.answering.clear()
    several = [Answers(), Answers()]
    for answers in several:
        look_up(Address("nobody"), answers)
    server.answering.set()
    one, other = (answers.only() for answers in several)
    assert isinstance(one, socket.gaierror)
    assert one.errno == socket.EAI_NONAME
    assert one is not other


@pytest.mark.parametrize("name", ["x" * 64, "two..dots"])
def test_a_text_that_cannot_be_a_name_is_an_error_too(name: str) -> None:
    answers = Answers()
    look_up(Address(name), answers)
    assert isinstance(answers.only(), socket.gaierror)


def test_a_name_without_an_address_is_an_error(server: NameServer) -> None:
    server.known["robot"] = []
    answers = Answers()
    look_up(Address("robot"), answers)
    assert isinstance(answers.only(), socket.gaierror)


def test_a_look_up_that_fails_in_another_way_is_answered_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    answers = Answers()
    look_up(Address("robot"), answers)
    assert isinstance(answers.only(), OSError)
    assert "robot" in caplog.text


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError])
def test_a_thread_that_cannot_be_started_is_an_error(
    server: NameServer, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise kind("can't start new thread")

    answers, later = Answers(), Answers()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        look_up(Address("robot"), answers)
    assert isinstance(answers.only(), OSError)
    assert answers.threads == [threading.current_thread()]
    look_up(Address("robot"), later)
    assert later.only() == [Target(socket.AF_INET, "10.0.0.7", 5672)]


def test_a_callback_that_fails_costs_no_other_caller_the_answer(
    server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise ValueError("a mistake of the caller")

    server.answering.clear()
    answers = Answers()
    look_up(Address("robot"), fail)
    look_up(Address("robot"), answers)
    server.answering.set()
    answers.only()
    assert "a mistake of the caller" in caplog.text


def test_a_forked_child_asks_anew(server: NameServer) -> None:
    resolver = Resolver()
    server.answering.clear()
    parents, own = Answers(), Answers()
    resolver.look_up(Address("robot"), parents)
    resolver.disown()  # as every fork does
    resolver.look_up(Address("robot"), own)
    assert len(threads()) == 2
    server.answering.set()
    own.only()
    assert not parents.found


# ---- with asyncio


def test_a_coroutine_gets_the_addresses(server: NameServer) -> None:
    found = asyncio.run(resolve(Address("robot"), scaled(5)))
    assert found == [Target(socket.AF_INET, "10.0.0.7", 5672)]


def test_a_coroutine_gets_the_error(server: NameServer) -> None:
    with pytest.raises(socket.gaierror, match="not known"):
        asyncio.run(resolve(Address("nobody"), scaled(5)))


def test_a_coroutine_and_its_loop_end_although_the_name_hangs(server: NameServer) -> None:
    server.answering.clear()
    with pytest.raises((asyncio.TimeoutError, TimeoutError)):
        asyncio.run(resolve(Address("robot"), 0.01))
    assert len(threads()) == 1
