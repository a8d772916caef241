"""A chart on a machine of a test's network: does what it is told on its standard input.

Run as ``python -m tests.lan.node NAME ARGUMENTS``, the second being the chart's keyword arguments
as JSON, and ``limits`` among them those of `Limits`. ``descriptors`` is how many of them the
process may have, and ``trial_s`` is in place of `places.TRIAL_S`. Each line of input is a JSON list
of a command and its arguments; each is answered by one line of JSON. `Node` is its other end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from miros import Event

from miros_rabbitmq import (
    DropReason,
    Limits,
    NetworkedActiveObject,
    PeersChanged,
    PeerSource,
    PeerState,
)
from miros_rabbitmq.discovery import places
from miros_rabbitmq.urls import parse_address

from ..broker.charts import Record, listening, make_active_object
from ..helpers import scaled, wait_until
from .netns import Namespace


class Node:
    """The chart as the test sees it.

    Args:
        machine: where it runs.
        name: the chart's.
        folder: its working directory.
        arguments: the chart's keyword arguments.
    """

    def __init__(self, machine: Namespace, name: str, folder: Path, **arguments: Any) -> None:
        words = shlex.join([name, json.dumps(arguments)])
        code = f"from tests.lan.node import main; import shlex; main(*shlex.split({words!r}))"
        self._process = machine.start(code, folder=folder)

    def started(self) -> Any:
        """Wait until ``start_at`` has returned; its answer says how long that took."""
        return self._read()

    def do(self, *command: Any) -> Any:
        pipe: IO[str] | None = self._process.stdin
        assert pipe is not None
        pipe.write(json.dumps(command) + "\n")
        pipe.flush()
        return self._read()

    def peers(self) -> dict[str, list[str]]:
        """By address: source, state, outcome."""
        answer: dict[str, list[str]] = self.do("peers")
        return answer

    def wait_for_peers(self, *addresses: str, timeout: float = 20.0) -> float:
        """Wait until events can be sent to exactly these besides the own broker.

        Returns:
            how long that took, in seconds.
        """
        took: float = self.do("wait_for_peers", list(addresses), timeout)
        return took

    def stop(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()  # which ends it
            self._process.stdin = None
        try:
            _, complaints = self._process.communicate(timeout=scaled(25))
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        assert self._process.returncode == 0, complaints

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(self._process.communicate()[1])
        return json.loads(line)


log: list[str] = []
"""What the chart's process has logged, at INFO and above."""


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.append(record.getMessage())


class Commands:
    """What a node can be told; each method answers something that JSON can say."""

    def __init__(
        self, chart: NetworkedActiveObject, record: Record, changes: list[PeersChanged]
    ) -> None:
        self._chart = chart
        self._record = record
        self._changes = changes
        self._quiet = threading.Event()
        self._talked = 0

    def holdings(self) -> dict[str, int]:
        """What the process holds, and how many brokers it publishes to."""
        return {
            "members": len(self._chart.nets.stats().mesh.brokers),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "known": len(self._chart.nets.stats().peers),
            "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }

    def open_files(self, count: int) -> int:
        """Open so many files at once, and close them."""
        with contextlib.ExitStack() as files:
            for _ in range(count):
                files.enter_context(open("/dev/null"))
        return count

    def transmit(self, signal: str, count: int) -> int:
        for number in range(count):
            self._chart.transmit(Event(signal=signal, payload=number))
        return count

    def begin_to_talk(self, signal: str) -> None:
        """Transmit an event each 5 ms, until told to be quiet."""
        self._quiet.clear()

        def talk() -> None:
            while not self._quiet.wait(0.005):
                self.transmit_next(signal)

        self._talker = threading.Thread(target=talk)
        self._talker.start()

    def transmit_next(self, signal: str) -> None:
        self._chart.transmit(Event(signal=signal, payload=self._talked))
        self._talked += 1

    def be_quiet(self) -> int:
        """Returns the number of events transmitted."""
        self._quiet.set()
        self._talker.join()
        return self._talked

    def wait_for_heard(self, signal: str, count: int) -> list[Any]:
        wait_until(lambda: len(self._record.payloads(signal)) >= count, 10)
        return self._record.payloads(signal)

    def peers(self) -> dict[str, list[str]]:
        return {
            str(peer.address): [
                peer.source.name,
                peer.state.name,
                peer.outcome.name if peer.outcome else "",
            ]
            for peer in self._chart.nets.stats().peers
        }

    def wait_for_peers(self, addresses: list[str], timeout: float) -> float:
        began = time.monotonic()

        def present() -> set[str]:
            peers = self._chart.nets.stats().peers
            return {str(one.address) for one in peers[1:] if one.state is PeerState.PRESENT}

        wait_until(lambda: present() == set(addresses), timeout, lambda: str(self.peers()))
        return time.monotonic() - began

    def wait_for_member(self, address: str, timeout: float) -> float:
        """Wait until events can be sent to a broker, among any number of others."""
        began = time.monotonic()

        def is_there() -> bool:
            peers = self._chart.nets.stats().peers
            return any(
                str(one.address) == address and one.state is PeerState.PRESENT for one in peers
            )

        wait_until(is_there, timeout, lambda: str(self.peers()))
        return time.monotonic() - began

    def own(self) -> dict[str, Any]:
        """Where the own broker is, as everything that tells it says."""
        nets = self._chart.nets
        stats = nets.stats()
        return {
            "url": str(nets.this_url.address),
            "lan": nets.lan.this.address,
            "peers": [str(one.address) for one in stats.peers if one.source is PeerSource.OWN],
            "consumer": stats.mesh.consumer.name,
            "queue": stats.mesh.queue,
            "publishers": sorted(stats.mesh.brokers),
        }

    def wait_for_own(self, address: str, timeout: float = 30) -> float:
        """Wait until the own broker is there, and events are taken from it."""
        began = time.monotonic()

        def is_there() -> bool:
            own = self.own()
            places = [own["url"], f"{own['lan']}:5672", *own["peers"]]
            return set(places) == {address} and own["consumer"] == "READY"

        wait_until(is_there, timeout, lambda: str(self.own()))
        return time.monotonic() - began

    def spares(self) -> dict[str, str]:
        peers = self._chart.nets.stats().peers
        return {str(one.address): str(one.spare_of) for one in peers if one.spare_of is not None}

    def wait_for_spares(self, spares: dict[str, str]) -> None:
        wait_until(lambda: self.spares() == spares, 15, lambda: f"{self.spares()} {self.peers()}")

    def wait_for_one_spare(self) -> list[str]:
        wait_until(lambda: len(self.spares()) == 1, 15, lambda: str(self.peers()))
        return [*self.spares()]

    def sent(self) -> dict[str, int]:
        return {at: one.sent for at, one in self._chart.nets.stats().mesh.brokers.items()}

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def flush(self) -> bool:
        return self._chart.nets.flush(scaled(25))

    def pose(self, place: str) -> None:
        """Announce another broker than the own one, as any holder of the key can."""
        membership = type(self._chart.nets.node.membership)
        announced = property(lambda _: parse_address(place))
        membership.to_announce = announced  # type: ignore[assignment,method-assign]

    def log(self, word: str) -> list[str]:
        """The lines of the log with a word."""
        return [text for text in log if word in text]

    def wait_for_source(self, address: str, source: str) -> None:
        wait_until(lambda: self.peers().get(address, [""])[0] == source, 10)

    def wait_for_changes(self, added: list[str], removed: list[str]) -> None:
        """Wait until the callback has been told of exactly these."""
        expected = {"added": added, "removed": removed}
        wait_until(lambda: self.changes() == expected, 20, lambda: str(self.changes()))

    def wait_for_removed(self, address: str) -> None:
        wait_until(lambda: address in map(str, self.changes()["removed"]), 15)

    def changes(self) -> dict[str, list[str]]:
        return {
            "added": [str(one) for change in self._changes for one in change.added],
            "removed": [str(one) for change in self._changes for one in change.removed],
        }

    def stats(self) -> dict[str, int]:
        mesh = self._chart.nets.stats().mesh
        return {
            "gaps": mesh.gaps,
            "duplicates": mesh.duplicates,
            "received": mesh.received,
            "rejected": sum(mesh.rejected.values()),
            "forgotten": mesh.dropped[DropReason.FORGOTTEN],
        }


def main(name: str, arguments: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # to standard error
    logging.getLogger("miros_rabbitmq").addHandler(Keep())
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    keywords = json.loads(arguments)
    if "descriptors" in keywords:
        count = keywords.pop("descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    if "trial_s" in keywords:
        places.TRIAL_S = keywords.pop("trial_s")
    keywords["limits"] = Limits(**keywords.get("limits", {}))
    changes: list[PeersChanged] = []
    chart, record = make_active_object(
        name, **keywords, start_timeout=scaled(5), on_peers_changed=changes.append
    )
    began = time.monotonic()
    with chart:
        chart.start_at(listening)
        tell({"took": time.monotonic() - began})
        commands = Commands(chart, record, changes)
        for line in sys.stdin:
            command, *values = json.loads(line)
            method: Callable[..., Any] = getattr(commands, command)
            tell(method(*values))


def tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
