"""A snoop logger: writes the trace and the spy of every chart of a system to a log file.

It shows how one program watches all others without taking part: it enables the snoops with
callbacks that write to a file instead of the terminal, and hears no event of the mesh. The file is
rotated, so that it never fills the disk. The logger's own lines go to its terminal, as those of any
chart do.

By itself, this program boots a private RabbitMQ and a second process with two charts that play
ping-pong, logs what they do for some seconds, and shows a part of the log::

    python examples/snoop_logger.py

On a real system it runs until Ctrl-C or SIGTERM, as a service would. The charts to be watched have
their snoops enabled::

    export RABBIT_USER=robot RABBIT_PASSWORD=... MESH_KEY=...
    python examples/snoop_logger.py --host 192.168.1.71 --log /var/log/robots/snoop.log --spy
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

MOST_BYTES = 1_000_000  # of one file
FILES = 5  # that are kept besides the current one
STROKE_S = 0.3
TRANSITIONS, SHOWN = 20, 40  # of the demo, and the lines that it shows


class SnoopLogger(NetworkedActiveObject):
    """Writes snoop lines to a log, and says in it when the system falls silent.

    ::

        watching: hearing <──> silent

    Args:
        log: takes the lines.
        report_s: the time between two reports, in seconds.
        spy: whether to write the spy, too. It has some ten lines for each event.
        network: the other arguments of the chart.
    """

    def __init__(self, log: logging.Logger, report_s: float, *, spy: bool, **network: Any) -> None:
        super().__init__(
            "snoop_logger",
            rx_routing_key="snoop_logger.hears.no.events",  # nobody transmits by this key
            on_trace_rx=self.on_trace,
            on_spy_rx=self.on_spy,
            **network,
        )
        self.log = log
        self.report_s = report_s
        self.lines: Counter[str] = Counter()  # since the last report, by the name of the chart
        self.transitions = 0
        self.enable_snoop_trace_no_color()
        if spy:
            self.enable_snoop_spy_no_color()

    def on_trace(self, name: str, line: str) -> None:
        """Take a trace line of another chart, in a thread of its own."""
        self.lines[name] += 1
        self.transitions += 1
        self.log.info("trace %s", line)

    def on_spy(self, name: str, line: str) -> None:
        """Take a spy line of another chart, in another thread."""
        self.log.info("spy   [%s] %s", name, line)


@spy_on
def watching(logger: SnoopLogger, e: Event) -> Any:
    """The outer state: has a timer."""
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        logger.post_fifo(Event(signal=signals.REPORT), period=logger.report_s)
        status = return_status.HANDLED
    elif e.signal == signals.EXIT_SIGNAL:
        logger.cancel_events(Event(signal=signals.REPORT))
        status = return_status.HANDLED
    else:
        status, logger.temp.fun = return_status.SUPER, logger.top
    return status


@spy_on
def hearing(logger: SnoopLogger, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.REPORT:
        if logger.lines:
            counts = ", ".join(f"{count} of {name}" for name, count in sorted(logger.lines.items()))
            logger.log.info("      # transitions: %s", counts)
            logger.lines.clear()
            status = return_status.HANDLED
        else:
            logger.log.warning("      # nothing was heard for %g s", logger.report_s)
            status = logger.trans(silent)
    else:
        status, logger.temp.fun = return_status.SUPER, watching
    return status


@spy_on
def silent(logger: SnoopLogger, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.REPORT and logger.lines:
        status = logger.trans(hearing)
    elif e.signal == signals.REPORT:
        status = return_status.HANDLED
    else:
        status, logger.temp.fun = return_status.SUPER, watching
    return status


def log_to(path: Path) -> logging.Logger:
    """A log of its own, which nobody else writes to, in files of a bounded size."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=MOST_BYTES, backupCount=FILES)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log = logging.getLogger("snoop")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # to the log of this program
    return log


# Something to watch: two charts that play ping-pong.


@spy_on
def playing(player: NetworkedActiveObject, e: Event) -> Any:
    """The outer state."""
    player.temp.fun = player.top
    return return_status.SUPER


@spy_on
def receiving(player: NetworkedActiveObject, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.BALL:
        status = player.trans(striking)
    else:
        status, player.temp.fun = return_status.SUPER, playing
    return status


@spy_on
def striking(player: NetworkedActiveObject, e: Event) -> Any:
    status = return_status.UNHANDLED
    if e.signal == signals.ENTRY_SIGNAL:
        player.post_fifo(Event(signal=signals.STRIKE), period=STROKE_S, times=1)
        status = return_status.HANDLED
    elif e.signal == signals.STRIKE:
        player.transmit(Event(signal=signals.BALL))
        status = player.trans(receiving)
    else:
        status, player.temp.fun = return_status.SUPER, playing
    return status


def play(network: dict[str, Any]) -> None:
    """Play until somebody ends this process."""
    with (
        NetworkedActiveObject("ping", **network) as ping,
        NetworkedActiveObject("pong", **network) as pong,
    ):
        for player in (ping, pong):
            player.enable_snoop_trace()
            player.enable_snoop_spy()
        pong.start_at(receiving)
        ping.start_at(striking)
        ping.wait()


@contextlib.contextmanager
def players_at(host: str) -> Iterator[None]:
    """Two players in a process of their own, whose terminal is nowhere."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--play", "--host", host],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this program, which then ends that one
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def from_environment(name: str) -> str:
    """A secret, which is not for the command line: everybody can see that."""
    if name not in os.environ:
        sys.exit(f"{name} is not in the environment: the top of this program says how to set it")
    return os.environ[name]


def network_at(host: str, addresses: list[str] | None) -> dict[str, Any]:
    """The arguments of a chart; user, password and key are in the environment."""
    return {
        "rabbit_user": from_environment("RABBIT_USER"),
        "rabbit_password": from_environment("RABBIT_PASSWORD"),
        "mesh_encryption_key": from_environment("MESH_KEY"),
        "rabbit_host": host,
        "addresses": addresses,
    }


def demonstrate() -> None:
    """Log a game at a private broker, and show the end of the log."""
    with LocalBroker("127.0.0.2") as broker, tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            RABBIT_USER=broker.user,
            RABBIT_PASSWORD=broker.password,
            MESH_KEY=Fernet.generate_key().decode(),
        )
        path = Path(folder, "snoop.log")
        network = network_at(str(broker.address), [])
        with SnoopLogger(log_to(path), 1.0, spy=True, **network) as logger:
            logger.start_at(hearing)
            with players_at(network["rabbit_host"]):
                deadline_s = time.monotonic() + 60
                while logger.transitions < TRANSITIONS and time.monotonic() < deadline_s:
                    time.sleep(0.1)
        logging.getLogger("snoop").handlers[0].close()
        lines = path.read_text(encoding="utf-8").splitlines()
        print(f"\nThe first {SHOWN} of {len(lines)} lines in {path.name}:\n")
        print("\n".join(lines[:SHOWN]))


def main() -> None:
    """Log until Ctrl-C or SIGTERM; or demonstrate that."""
    parser = argparse.ArgumentParser(description="Writes the snoops of a system to a file.")
    parser.add_argument("--host", help="own broker, host or host:port; without it, a private one")
    parser.add_argument("--addresses", nargs="*", help="other brokers; default: the LAN's")
    parser.add_argument("--log", type=Path, default=Path("snoop.log"), help="the file (snoop.log)")
    parser.add_argument("--spy", action="store_true", help="write the spy, too")
    parser.add_argument("--report", type=float, default=60.0, help="seconds between reports (60)")
    parser.add_argument("--play", action="store_true", help="be the two players instead")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    if options.host is None:
        demonstrate()
    elif options.play:
        play(network_at(options.host, []))
    else:
        network = network_at(options.host, options.addresses)
        log = log_to(options.log)
        with SnoopLogger(log, options.report, spy=options.spy, **network) as logger:
            logger.start_at(hearing)
            logger.wait()


if __name__ == "__main__":
    main()
