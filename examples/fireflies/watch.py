"""Twenty fireflies that come to blink as one, drawn in the terminal. Nobody conducts them.

``make fireflies`` runs this, and so does::

    python examples/fireflies/watch.py

It boots a private RabbitMQ and four processes with five fireflies each. Every firefly is a
statechart, and each of its flashes an event that all others hear; ``firefly.py`` has their three
rules. One more chart, the meadow, hears the flashes, and this program draws what it has heard.

First they blink at random, then in waves, and after some ten seconds together. Then thunder
scatters them, and later a process is killed; a new one takes its place, and its fireflies fall in.
You can do the same::

    space   thunder        k   kill a process        q   quit

It ends after a minute (``--seconds``; 0 for never), or with q, Ctrl-C or SIGTERM. Without a
terminal, it writes a line every two seconds.
"""

from __future__ import annotations

import argparse
import cmath
import contextlib
import itertools
import json
import logging
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from cryptography.fernet import Fernet
from firefly import HIDES_LONGEST_S, PERIOD_S
from miros import Event, return_status, signals, spy_on
from night import MOST_COLUMNS, MOST_ROWS, Depth, Night, Spark

from miros_rabbitmq import LocalBroker, LocalBrokerError, NetworkedActiveObject

PROCESSES = 4
IN_EACH = 5
FRAME_S = 1 / 15
LINE_S = 2.0

STORY = ((" ", 30.0), ("k", 46.0))
"""The keys that are pressed as long as nobody presses any: when they have been together for
`ENJOY_S`, or after so many seconds."""

ENJOY_S = 7.0
WAKE_S = 30.0

EMPTY_S = 6.0
"""How long the place of a killed process stays empty."""

TOGETHER, APART = 0.97, 0.75
"""The synchrony at which the meadow says that they blink together, and that they do not."""

STEADY_S = 1.5 * PERIOD_S
LIGHTNING_S = 0.5


class Flash(NamedTuple):
    """The last flash of a firefly: when it was seen, and where the firefly flew from there."""

    seen_s: float
    x: float
    y: float
    dx: float
    dy: float

    def spark(self, now_s: float) -> Spark:
        """The firefly as it looks now."""
        age_s = now_s - self.seen_s
        light = min(1.0, age_s / 0.05) * math.exp(-max(0.0, age_s - 0.12) / 0.22)
        x, y = self.x + self.dx * age_s, self.y + self.dy * age_s
        return Spark(min(1.0, max(0.0, x)), min(1.0, max(0.0, y)), max(0.1, light))


class Meadow(NetworkedActiveObject):
    """Hears every flash, and judges whether they come together.

    ::

        night: flickering <──> together
    """

    def __init__(self, **network: Any) -> None:
        super().__init__("meadow", **network)
        self.begun_s = time.monotonic()
        self.recorded: list[tuple[float, int | str]] = []  # firefly or words, and when
        self.together_since_s: float | None = None
        self.steady_since_s: float | None = None
        self.thunder_s = -math.inf
        self._flashes: dict[int, Flash] = {}
        self._lock = threading.Lock()  # the chart's thread writes, and that which draws reads

    def note(self, flash: dict[str, Any]) -> None:
        """Take note of a flash."""
        now_s = time.monotonic()
        place = flash["x"], flash["y"], flash["dx"], flash["dy"]
        with self._lock:
            self._flashes[flash["number"]] = Flash(now_s, *place)
        self.record(flash["number"])

    def wait_for_all(self, timeout_s: float) -> None:
        """Wait until every firefly has flashed, and begin the evening."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.flashes()) < PROCESSES * IN_EACH and time.monotonic() < deadline_s:
            time.sleep(FRAME_S)
        self.recorded.clear()
        self.begun_s = time.monotonic()

    def record(self, what: int | str) -> None:
        """Remember when a firefly has flashed, or what else has happened. From any thread."""
        self.recorded.append((round(time.monotonic() - self.begun_s, 2), what))

    def flashes(self) -> list[Flash]:
        """The last flash of every firefly that is there; of one that hides, too."""
        oldest_s = time.monotonic() - 1.7 * PERIOD_S - HIDES_LONGEST_S * self.is_after_thunder()
        with self._lock:
            self._flashes = {
                number: one for number, one in self._flashes.items() if one.seen_s > oldest_s
            }
            return list(self._flashes.values())

    def is_after_thunder(self) -> bool:
        """Whether some fireflies may still hide."""
        return bool(time.monotonic() < self.thunder_s + HIDES_LONGEST_S + 2 * PERIOD_S)

    def synchrony(self) -> float:
        """From 0 for any which way to 1 for all at once: Kuramoto's order parameter."""
        now_s = time.monotonic()
        phases = [
            cmath.exp(2j * math.pi * (now_s - one.seen_s) / PERIOD_S) for one in self.flashes()
        ]
        return abs(sum(phases)) / len(phases) if phases else 0.0


@spy_on
def night(meadow: Meadow, e: Event) -> Any:
    """The outer state: hears flashes, and passes thunder on."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        meadow.post_fifo(Event(signal=signals.LOOK), period=0.2)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        meadow.cancel_events(Event(signal=signals.LOOK))
        status = return_status.HANDLED
    elif e.signal == signals.FLASH:
        meadow.note(e.payload)
        status = return_status.HANDLED
    elif e.signal == signals.LIGHTNING:
        meadow.thunder_s = time.monotonic()
        meadow.transmit(Event(signal=signals.THUNDER))
        status = meadow.trans(flickering)
    else:
        status, meadow.temp.fun = return_status.SUPER, meadow.top
    return status


@spy_on
def flickering(meadow: Meadow, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        meadow.steady_since_s = None
        status = return_status.HANDLED
    elif e.signal == signals.LOOK:
        now_s = time.monotonic()
        status = return_status.HANDLED
        if meadow.synchrony() < TOGETHER or len(meadow.flashes()) < 2:
            meadow.steady_since_s = None
        elif meadow.steady_since_s is None:
            meadow.steady_since_s = now_s
        elif now_s - meadow.steady_since_s > STEADY_S:
            status = meadow.trans(together)
    else:
        status, meadow.temp.fun = return_status.SUPER, night
    return status


@spy_on
def together(meadow: Meadow, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        meadow.together_since_s = meadow.steady_since_s
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        meadow.together_since_s = None
        status = return_status.HANDLED
    elif e.signal == signals.LOOK and meadow.synchrony() < APART:
        status = meadow.trans(flickering)
    else:
        status, meadow.temp.fun = return_status.SUPER, night
    return status


class Swarm:
    """The processes with fireflies; each ends when its standard input does.

    Args:
        host: the broker.
        complaints: where they write what is wrong.
    """

    def __init__(self, host: str, complaints: IO[bytes]) -> None:
        self._host = host
        self._complaints = complaints
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._empty_until_s: dict[int, float] = {}

    def start(self, place: int) -> None:
        """Start the process of a place."""
        numbers = [str(place * IN_EACH + one) for one in range(IN_EACH)]
        self._processes[place] = subprocess.Popen(
            [
                sys.executable,
                Path(__file__).with_name("firefly.py"),
                *numbers,
                "--host",
                self._host,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for this program alone
        )

    def kill(self) -> bool:
        """Kill one of the processes; `replace` starts another one later."""
        for place, process in self._processes.items():
            if place not in self._empty_until_s:
                process.kill()
                self._empty_until_s[place] = time.monotonic() + EMPTY_S
                return True
        return False

    def replace(self) -> bool:
        """Start what has been away for long enough; returns whether there was any."""
        now_s = time.monotonic()
        due = [place for place, until_s in self._empty_until_s.items() if now_s > until_s]
        for place in due:
            del self._empty_until_s[place]
            self._end(place)
            self.start(place)
        return bool(due)

    def end(self) -> None:
        """End all processes, at the same time."""
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for place in self._processes:
            self._end(place)

    def _end(self, place: int) -> None:
        process = self._processes[place]
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Lines:
    """What is shown without a terminal: a line now and then."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def show(self, meadow: Meadow, _processes: int) -> None:
        """Write a line, if it is time for one."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + LINE_S
        synchrony = meadow.synchrony()
        bar = ("#" * round(20 * synchrony)).ljust(20, ".")
        state = meadow.state.fun.__name__
        count = len(meadow.flashes())
        seconds = now_s - meadow.begun_s
        print(f"{seconds:4.0f} s  {count:2} fireflies  {bar} {synchrony:.2f}  {state}", flush=True)

    def say(self, what: str) -> None:
        """Write what has happened."""
        print(f"        {what}", flush=True)

    def key(self, timeout_s: float) -> str:
        """There are no keys: wait."""
        time.sleep(timeout_s)
        return ""


class Screen:
    """A terminal, with the picture, a line of text below, and keys."""

    def __init__(self) -> None:
        self._night: Night | None = None
        self._size = (0, 0)
        self._said = ""
        self._said_s = 0.0

    def show(self, meadow: Meadow, processes: int) -> None:
        """Draw what has changed."""
        size = shutil.get_terminal_size()
        columns, rows = min(MOST_COLUMNS, size.columns), min(MOST_ROWS, size.lines - 2)
        left, top = (size.columns - columns) // 2, max(0, (size.lines - rows - 2) // 2)
        output = []
        if size != self._size:
            self._size = size
            self._night = None
            output.append("\x1b[0m\x1b[2J")
            if columns >= 20 and rows >= 6:
                self._night = Night(columns, rows, depth_of_terminal(), left=left, top=top)
        now_s = time.monotonic()
        if self._night is not None:
            away_s = now_s - meadow.thunder_s
            lightning = math.exp(-away_s / 0.12) if away_s < LIGHTNING_S else 0.0
            sparks = [one.spark(now_s) for one in meadow.flashes()]
            output.append(self._night.frame(sparks, lightning))
        row = min(size.lines, top + max(rows, 0) + 1)
        for number, text in enumerate(self._texts(meadow, processes, now_s)):
            if row + number <= size.lines:
                line = text.center(columns)[:columns]
                output.append(f"\x1b[{row + number};{left + 1}H{line}")
        sys.stdout.write("".join(output))
        sys.stdout.flush()

    def _texts(self, meadow: Meadow, processes: int, now_s: float) -> tuple[str, str]:
        synchrony = meadow.synchrony()
        bar = ("|" * round(16 * synchrony)).ljust(16, ".")
        since_s = meadow.together_since_s
        how = "blinking" if since_s is None else f"together for {now_s - since_s:.0f} s"
        state = f"{len(meadow.flashes()):2} fireflies, {processes} processes  [{bar}]  {how}"
        keys = "space thunder    k kill a process    q quit"
        return state, self._said if now_s < self._said_s + 4 else keys

    def say(self, what: str) -> None:
        """Show for some seconds what has happened."""
        self._said, self._said_s = what, time.monotonic()

    def key(self, timeout_s: float) -> str:
        """Wait for a key; returns nothing if there is none in time."""
        if not select.select([sys.stdin], [], [], timeout_s)[0]:
            return ""
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") or "q"  # "q" at its end

    @contextlib.contextmanager
    def taken(self) -> Iterator[Screen]:
        """Take the terminal, and give it back as it was, whatever happens."""
        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin)
            now = termios.tcgetattr(sys.stdin)
            now[6][termios.VSUSP] = b"\x00"  # Ctrl-Z would leave the shell with this screen
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, now)
            sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[?7l")  # other screen, no cursor, no wrapping
            yield self
        finally:
            sys.stdout.write("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l")
            sys.stdout.flush()
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def depth_of_terminal() -> Depth:
    """How many colours the terminal has, by what the environment says."""
    if os.environ.get("NO_COLOR") or "utf" not in (sys.stdout.encoding or "").lower():
        return Depth.PLAIN
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        return Depth.FULL
    return Depth.PALETTE if "256color" in os.environ.get("TERM", "") else Depth.PLAIN


def watch(meadow: Meadow, swarm: Swarm, view: Lines | Screen, seconds: float) -> None:
    """Show the meadow until the time is over or a key ends it, and play the story."""

    def say(words: str) -> None:
        view.say(words)
        meadow.record(words)

    story = [*STORY]
    processes = PROCESSES
    was_together = False
    while not seconds or time.monotonic() < meadow.begun_s + seconds:
        view.show(meadow, processes)
        key = view.key(FRAME_S)
        if key:
            story = []
        elif story:
            now_s = time.monotonic()
            is_late = now_s > meadow.begun_s + story[0][1]
            if is_late or now_s > (meadow.together_since_s or now_s) + ENJOY_S:
                key = story.pop(0)[0]
        if key == "q":
            return
        if key == " ":
            meadow.post_fifo(Event(signal=signals.LIGHTNING))
            say("Thunder! They hide, and forget each other.")
        elif key == "k" and swarm.kill():
            processes -= 1
            say(f"A process is killed, and {IN_EACH} fireflies with it.")
        if swarm.replace():
            processes += 1
            say(f"A new process: {IN_EACH} fireflies that know nobody yet.")
        is_together = meadow.together_since_s is not None
        if is_together and not was_together:
            say("They blink together.")
        was_together = is_together


def run(seconds: float, record: Path | None) -> None:
    """Boot the broker, start everybody, and watch."""
    view: Lines | Screen = Screen() if sys.stdin.isatty() and sys.stdout.isatty() else Lines()
    print("A meadow at night: booting a private RabbitMQ, and waking the fireflies ...", flush=True)
    with contextlib.ExitStack() as stack:
        complaints = stack.enter_context(tempfile.TemporaryFile())
        broker = stack.enter_context(LocalBroker("127.0.0.2"))
        host = str(broker.address)
        os.environ.update(
            RABBIT_USER=broker.user,
            RABBIT_PASSWORD=broker.password,
            MESH_KEY=Fernet.generate_key().decode(),
        )
        swarm = Swarm(host, complaints)
        stack.callback(swarm.end)
        for place in range(PROCESSES):
            swarm.start(place)
        meadow = stack.enter_context(
            Meadow(
                rabbit_user=broker.user,
                rabbit_password=broker.password,
                mesh_encryption_key=os.environ["MESH_KEY"],
                rabbit_host=host,
                addresses=[],
                durable=False,
            )
        )
        meadow.start_at(flickering)
        meadow.wait_for_all(WAKE_S)
        if isinstance(view, Screen):
            stack.enter_context(view.taken())
        watch(meadow, swarm, view, seconds)
        if record is not None:
            record.write_text(json.dumps(meadow.recorded), encoding="utf-8")
        complaints.seek(0)
        for line in itertools.islice(complaints, 20):
            print(line.decode().rstrip(), file=sys.stderr)


def main() -> int:
    """Watch the fireflies; returns the exit code."""
    parser = argparse.ArgumentParser(description="Twenty fireflies that come to blink as one.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60); 0: until q")
    parser.add_argument("--record", type=Path, help="write what has happened to this file, as JSON")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.ERROR)  # a warning would be drawn into the picture
    try:
        run(options.seconds, options.record)
    except LocalBrokerError as error:
        print(f"fireflies: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
