"""What each topology costs as nodes grow: a broker for each host, one for all, a cluster of three.

::

    python -m bench.topology own 2 5 10
    python -m bench.topology shared 10 50
    python -m bench.topology cluster 10 50

Each node is a process with one chart; hosts are loopback addresses, and brokers are private
RabbitMQ nodes. Every chart hears every event. Prints one row for each number of nodes. It is no
part of ``make bench``, as fifty brokers take 6 GB and some minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.fernet import Fernet
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import LocalBroker, NetworkedActiveObject

EVENTS, PAUSE_S = 100, 0.1
"""What one node transmits: so few that each event is a message of its own."""

SETTLE_S = 10.0
"""After this a start is over; six times as long has two rounds of announcements."""

BOOT_S = 600.0
HEAR_S = 60.0
"""How long the last event may take."""

PASSWORD = secrets.token_urlsafe()
_TICKS = os.sysconf("SC_CLK_TCK")

COLUMNS = (
    *("nodes", "brokers", "connections", "each broker's", "idle B/s", "of it a connection"),
    *("B an event", "in + out of a broker", "broker MiB", "node MiB", "cpu ms an event"),
    "last start s",
)


# A node: a process that is told what to do, and answers, by lines of JSON.


@spy_on
def counting(chart: Any, e: Event) -> Any:
    """Counts the events."""
    if e.signal == signals.TICK:
        chart.heard += 1
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def play_node() -> None:
    """Be one node, until the input ends."""
    arguments = json.loads(sys.stdin.readline())
    chart: Any = NetworkedActiveObject(**arguments)
    chart.heard = 0
    begun_s = time.monotonic()
    chart.start_at(counting)
    _say(time.monotonic() - begun_s)
    for line in sys.stdin:
        command, _, count = line.strip().partition(" ")
        if command == "send":
            for _ in range(int(count)):
                chart.transmit(Event(signal=signals.TICK))
                time.sleep(PAUSE_S)
            chart.nets.flush(60)
        elif command == "hear":
            deadline_s = time.monotonic() + HEAR_S
            while chart.heard < int(count) and time.monotonic() < deadline_s:
                time.sleep(0.01)
        _say(chart.heard)
    chart.stop()


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


class Node:
    """The process of a node.

    Args:
        arguments: of its chart.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.topology", "node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self._tell(json.dumps(arguments))

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next answer."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, line: str) -> Any:
        """Tell it something, and wait for the answer."""
        self._tell(line)
        return self.hear()

    def end(self) -> None:
        """End it."""
        # Leaving its context closes the streams, and waits.
        with self.process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


# Brokers.


def _host(number: int) -> str:
    return f"127.{60 + os.getpid() % 100}.{1 + number // 200}.{1 + number % 200}"


@contextlib.contextmanager
def brokers_of(topology: str, count: int) -> Iterator[list[LocalBroker]]:
    """Run the brokers of a topology."""
    first = LocalBroker(_host(0), user="robot", password=PASSWORD)
    alone: dict[str, Any] = {"user": "robot", "password": PASSWORD}
    of_another = {"joins": first} if topology == "cluster" else alone
    others = [LocalBroker(_host(number), **of_another) for number in range(1, count)]
    with contextlib.ExitStack() as stack:
        for broker in (first, *others):
            stack.callback(broker.stop)
        first.start(BOOT_S)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda broker: broker.start(BOOT_S), others))
        yield [first, *others]


class Watched:
    """What is asked of one broker."""

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker
        self.pid = int(
            broker.ctl("eval", 'io:format("~s", [os:getpid()]).', timeout=120).split("ok")[0]
        )

    def connections(self) -> int:
        """How many connections this node has."""
        code = 'io:format("~p", [length(rabbit_networking:local_connections())]).'
        return int(self._broker.ctl("eval", code, timeout=120).split("ok")[0])

    def octets(self) -> tuple[int, int]:
        """The bytes that all connections of this node have received and sent."""
        # Not list_connections, which asks all nodes of a cluster.
        code = """
            lists:foldl(fun(Connection, {Received, Sent}) ->
                Keys = [recv_oct, send_oct],
                [{_, In}, {_, Out}] = rabbit_networking:connection_info(Connection, Keys),
                {Received + In, Sent + Out}
            end, {0, 0}, rabbit_networking:local_connections()).
        """
        received, sent = self._broker.ctl("eval", code, timeout=120).strip("{}\n ").split(",")
        return int(received), int(sent)

    def memory_mib(self) -> float:
        """Its resident memory."""
        return memory_mib(self.pid)


def memory_mib(pid: int) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def processor_s(pid: int) -> float:
    """The processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


# Measuring.


def measure(
    topology: str, count: int, *, events: int = EVENTS, settle_s: float = SETTLE_S
) -> list[str]:
    """Run one topology with some nodes; returns its row.

    Args:
        topology: "own", "shared" or "cluster".
        count: how many nodes.
        events: how many one of them transmits.
        settle_s: what is waited after the starts; six times as long is looked at the silence.
    """
    broker_count = {"own": count, "shared": 1, "cluster": 3}[topology]
    key = Fernet.generate_key().decode()
    with brokers_of(topology, broker_count) as brokers, contextlib.ExitStack() as stack:
        all_ = [str(broker.address) for broker in brokers]
        sample = [Watched(broker) for broker in brokers[: 3 if topology == "cluster" else 2]]
        nodes: list[Node] = []
        start_s = 0.0
        for number in range(count):
            own = brokers[number % broker_count]
            arguments = {
                "name": f"node{number}",
                "rabbit_user": "robot",
                "rabbit_password": PASSWORD,
                "mesh_encryption_key": key,
                "rabbit_host": str(own.address),
                "addresses": all_,
                "start_timeout": 60.0,
            }
            nodes.append(Node(arguments))
            stack.callback(nodes[-1].end)
            start_s = nodes[-1].hear()
        time.sleep(settle_s)
        before, begun_s = [one.octets() for one in sample], time.monotonic()
        time.sleep(6 * settle_s)
        idle_s = time.monotonic() - begun_s
        after = [one.octets() for one in sample]
        connections = [one.connections() for one in sample]
        idle = _difference(before, after) / idle_s
        pids = [node.process.pid for node in nodes] + [one.pid for one in sample]
        worked_s = [processor_s(pid) for pid in pids]
        first, begun_s = [one.octets() for one in sample], time.monotonic()
        nodes[-1].ask(f"send {events}")
        heard = [node.ask(f"hear {events}") for node in nodes[:-1]]
        sent_s = time.monotonic() - begun_s
        last = [one.octets() for one in sample]
        cpu_s = sum(processor_s(pid) - then for pid, then in zip(pids, worked_s, strict=True))
        assert heard == [events] * (count - 1), heard
        event = (_difference(first, last) - idle * sent_s) / events
        share = broker_count / len(sample)
        each = sum(connections) / len(sample)
        return [
            str(count),
            str(broker_count),
            f"{each * broker_count:,.0f}",
            f"{each:,.0f}",
            f"{idle * share:,.0f}",
            f"{idle / sum(connections):,.0f}",
            f"{event * share:,.0f}",
            f"{event / len(sample):,.0f}",
            f"{sum(one.memory_mib() for one in sample) / len(sample):,.0f}",
            f"{sum(memory_mib(node.process.pid) for node in nodes) / count:,.0f}",
            f"{cpu_s / events * 1e3:,.1f}",
            f"{start_s:.2f}",
        ]


def _difference(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> int:
    return sum(map(sum, after)) - sum(map(sum, before))


# Reckoning.


class Costs(NamedTuple):
    """What some nodes cost if each transmits one event a second, which all hear."""

    connections: int
    """Of all brokers together."""
    broker_connections: int
    """Of one broker."""
    broker_mib: float
    """The memory of one broker."""
    broker_messages: int
    """What one broker takes and hands out in a second."""
    idle: float
    """The bytes a second over the network, before anybody transmits."""


BROKER_MIB, CONNECTION_MIB = 112.0, 0.27
"""A broker without connections, and what each of them takes."""

IDLE_BYTES = 32.0
"""What a connection carries in a second, in both directions, while nobody transmits."""

CLUSTER_BYTES = 16.5
"""In a cluster of three besides, for each pair of nodes: a chart announces itself to its two spares
twice a minute, and what reaches one node of a cluster reaches the charts at all."""


def reckon(nodes: int, brokers: int, *, cluster: bool = False) -> Costs:
    """What a topology costs.

    Each node has a connection to each broker, and another to its own, from which it hears. With as
    many brokers as nodes, that is a broker for each host; with one, a shared broker.

    Args:
        nodes: how many nodes, one to a host.
        brokers: how many brokers, each with the same number of nodes.
        cluster: whether they are one: then each event goes to one of them.
    """
    hearing = nodes / brokers
    connections = nodes * brokers + nodes
    each = nodes + hearing
    taken = hearing if cluster else nodes
    return Costs(
        connections,
        round(each),
        BROKER_MIB + CONNECTION_MIB * each,
        round(taken + nodes * hearing),
        IDLE_BYTES * connections + (CLUSTER_BYTES * nodes**2 if cluster else 0),
    )


def main() -> None:
    """Measure what the command line names."""
    if sys.argv[1:] == ["node"]:
        play_node()
        return
    topology, *counts = sys.argv[1:]
    print("  ".join(COLUMNS), flush=True)
    for count in counts:
        row = measure(topology, int(count))
        print("  ".join(cell.rjust(len(name)) for cell, name in zip(row, COLUMNS, strict=True)))
        sys.stdout.flush()
    assert threading.active_count() == 1


if __name__ == "__main__":
    main()
