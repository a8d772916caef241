"""A crossing with traffic lights: three statecharts, three processes, two brokers, one live trace.

``make demo`` runs this. It boots two private RabbitMQ nodes on loopback addresses, starts each
chart in a process of its own, and lets ``control`` show the state transitions of all three. At the
end it asks each process what its chart has transmitted and what it has handled, and compares.

Exit code: 0 if every event reached every other chart, 1 if not; 130 after Ctrl-C, 143 after
SIGTERM. Whatever happens, no process, port or file is left behind.

Read ``control.py``, ``cars.py`` and ``people.py`` to learn how a networked chart is written;
``stage.py`` and this module only put them on stage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, cast


def on_signal(number: int, _frame: FrameType | None) -> None:
    """Exit through every clean-up, which a second signal does not disturb."""
    ignore_signals()
    reset = "\x1b[0m" if sys.stderr.isatty() else ""
    print(f"{reset}\n  stopping: ending the processes and the brokers ...", file=sys.stderr)
    sys.exit(128 + number)


def ignore_signals() -> None:
    """Ignore signals during what follows; each of its steps ends by itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    # Before the imports that take a while: Ctrl-C may come at any moment.
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)

from cryptography.fernet import Fernet  # noqa: E402

from miros_rabbitmq import LocalBroker, LocalBrokerError  # noqa: E402

Entry = tuple[str, Any]
"""The name of an event's signal, and its payload."""

ANSWER_TIMEOUT_S = 30.0
"""How long a process may take for one command; seconds are usual only on a busy machine."""

SETTLE_TIMEOUT_S = 10.0
"""How long the last events may take to arrive, before they count as lost."""


class DemoError(Exception):
    """The demo cannot go on; says why."""


class Actor:
    """A chart in a process of its own, which ends with this one.

    Args:
        name: the chart, and its module.
        kind: the class of the chart.
        shows: whether its process writes to our terminal; the others write nowhere.
    """

    def __init__(self, name: str, kind: str, *, shows: bool = False) -> None:
        self.name = name
        self.kind = kind
        self._commands, theirs = Pipe()
        with theirs:
            # A session of its own: Ctrl-C reaches only the demo, which then ends the others.
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("stage.py"), name, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=None if shows else subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def commands(self) -> Connection[Any, Any]:
        """Readable without a question means: the process has ended."""
        return self._commands

    def ask(self, command: str, *arguments: Any) -> None:
        """Give a command; `answer` returns its result."""
        with self._alive():
            self._commands.send((command, *arguments))

    def answer(self) -> Any:
        """Wait for the answer to the last command."""
        with self._alive():
            if not self._commands.poll(ANSWER_TIMEOUT_S):
                raise DemoError(f"the process of {self.name} gave no answer")
            return self._commands.recv()

    def do(self, command: str, *arguments: Any) -> Any:
        """Give a command and wait for its answer."""
        self.ask(command, *arguments)
        return self.answer()

    def end(self) -> None:
        """End the process, if it has not ended by itself."""
        self._commands.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            raise DemoError(f"the process of {self.name} has ended unexpectedly") from None


class Row(NamedTuple):
    """One line of the summary."""

    name: str
    transmitted: int
    received: int
    lost: int
    in_order: bool


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description="A crossing: three charts on two brokers.")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the play (10)")
    seconds = parser.parse_args().seconds
    try:
        with contextlib.ExitStack() as stack:
            return perform(seconds, stack)
    except (DemoError, LocalBrokerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads our output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def perform(seconds: float, stack: contextlib.ExitStack) -> int:
    """Set up, play, compare; ``stack`` cleans everything up."""
    say("\n  A crossing: booting two RabbitMQ nodes and three processes ...")
    first = LocalBroker("127.0.0.2")
    second = LocalBroker("127.0.0.3", user=first.user, password=first.password)
    # The stack ends these last, so that no chart loses its broker.
    stack.callback(both, LocalBroker.stop, (first, second))
    control = actor(stack, "control", "NetworkedFactory", shows=True)
    cars = actor(stack, "cars", "NetworkedActiveObject")
    people = actor(stack, "people", "NetworkedActiveObject")
    actors = (control, cars, people)
    boot((first, second))  # while the processes import what they need
    stack.callback(ignore_signals)

    say("")
    places = {control: first, cars: first, people: second}
    for one, broker in places.items():
        say(f"    {one.name:<8}  process {one.process.pid:<7}  {one.kind:<21}  at {broker.address}")
    say("\n  The state transitions of all three, as control sees them:\n")

    # control first: it sees the others start.
    start(places, (control,))
    start(places, (cars, people))
    control.do("post", "SWITCH_ON")
    if wait([one.commands for one in actors], seconds):
        raise DemoError("one of the processes has ended unexpectedly")
    # The key is turned: control tells the others, and nobody transmits in the dark.
    control.do("post", "SWITCH_OFF")
    require_handled(control, [("SWITCH_OFF", None)])
    for one in (cars, people):
        require_handled(one, [("LIGHTS_OFF", None)])

    rows = compare(actors)
    for one in actors:
        one.do("stop")
    return summarize(rows)


def actor(stack: contextlib.ExitStack, name: str, kind: str, *, shows: bool = False) -> Actor:
    """Start a process that ``stack`` ends."""
    one = Actor(name, kind, shows=shows)
    stack.callback(one.end)
    return one


def boot(brokers: tuple[LocalBroker, ...]) -> None:
    """Start brokers at the same time; if the demo is ended meanwhile, end their boots at once."""
    with ThreadPoolExecutor(len(brokers)) as pool:
        try:
            list(pool.map(LocalBroker.start, brokers))
        except BaseException:
            both(LocalBroker.stop, brokers)  # or the pool would wait until they are ready
            raise


def both(method: Callable[[LocalBroker], None], brokers: tuple[LocalBroker, ...]) -> None:
    """Do something to all brokers at the same time."""
    with ThreadPoolExecutor(len(brokers)) as pool:
        list(pool.map(method, brokers))


def start(places: dict[Actor, LocalBroker], actors: tuple[Actor, ...]) -> None:
    """Start charts at the same time, each at its own broker."""
    for one in actors:
        broker = places[one]
        network = {
            "rabbit_user": broker.user,
            "rabbit_password": broker.password,
            "mesh_encryption_key": KEY,
            "rabbit_host": broker.host,
            "rabbit_port": broker.port,
            "addresses": [str(each.address) for each in set(places.values())],
        }
        one.ask("start", network, len(set(places.values())) - 1, SETTLE_TIMEOUT_S)
    for one in actors:
        if not one.answer():
            raise DemoError(f"{one.name} does not reach the other broker")


def require_handled(one: Actor, entries: list[Entry]) -> None:
    """Wait until a chart has handled events."""
    if not one.do("wait_until_handled", entries, SETTLE_TIMEOUT_S):
        names = ", ".join(name for name, _ in entries)
        raise DemoError(f"{one.name} has not handled {names} within {SETTLE_TIMEOUT_S:g} s")


def compare(actors: tuple[Actor, ...]) -> list[Row]:
    """Compare what each chart has transmitted with what every other has handled."""
    for one in actors:
        one.do("flush", SETTLE_TIMEOUT_S)
    told = {one: cast("list[Entry]", one.do("told")) for one in actors}
    rows = []
    for one in actors:
        others = [told[other] for other in actors if other is not one]
        expected = [entry for entries in others for entry in entries]
        one.do("wait_until_handled", expected, SETTLE_TIMEOUT_S)
        handled = cast("list[Entry]", one.do("handled"))
        received = [entry for entry in handled if entry in expected]
        rows.append(
            Row(
                one.name,
                transmitted=len(told[one]),
                received=len(received),
                lost=sum((Counter(expected) - Counter(received)).values()),
                # From each sender: every event, once, in order.
                in_order=all(
                    [entry for entry in received if entry in entries] == entries
                    for entries in others
                ),
            )
        )
    return rows


def summarize(rows: list[Row]) -> int:
    """Print the summary and return the exit code."""
    say("\n  events      transmitted    received    lost")
    for row in rows:
        remark = "" if row.in_order else "    not each once and in order"
        say(f"    {row.name:<8}  {row.transmitted:>11}  {row.received:>10}  {row.lost:>6}{remark}")
    transmitted = sum(row.transmitted for row in rows)
    lost = sum(row.lost for row in rows)
    if transmitted and not lost and all(row.in_order for row in rows):
        say("\n  Each event reached each of the other two charts, once and in order.\n")
        return 0
    say(f"\n  Not every event arrived: {lost} lost.\n")
    return 1


def say(text: str) -> None:
    """Print at once: control writes to the same terminal."""
    print(text, flush=True)


KEY = Fernet.generate_key()

if __name__ == "__main__":
    sys.exit(main())
