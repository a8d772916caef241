"""A team of robots and a base station, on one machine or on several.

By itself, it boots two private RabbitMQ nodes, runs the base station at one and the robots, each in
a process of its own, at the other, and shows the trace of all charts::

    python team.py
    python team.py --log team.log      # and keeps it in a file
    python team.py --restart           # and restarts the robots' broker in the middle

On real brokers it runs one member of the team; start them in any order::

    export RABBIT_USER=robot RABBIT_PASSWORD=... MESH_KEY=...     # the same on all machines
    python team.py base   --host 192.168.1.71 --addresses 192.168.1.72
    python team.py wren   --host 192.168.1.72 --addresses 192.168.1.71
    python team.py finch  --host 192.168.1.72 --addresses 192.168.1.71
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from base import Base, gathering, speaking
from cryptography.fernet import Fernet
from robot import Robot, free

from miros_rabbitmq import LocalBroker, NetworkedActiveObject


def main() -> int:
    parser = argparse.ArgumentParser(description="A team of robots and a base station.")
    parser.add_argument("member", nargs="?", help="base, or the name of a robot; default: all")
    parser.add_argument("--team", nargs="+", default=["wren", "finch"], help="all robots' names")
    parser.add_argument("--host", help="the member's own broker, host or host:port")
    parser.add_argument("--addresses", nargs="*", help="the other brokers; default: the LAN's")
    parser.add_argument("--orders", type=int, default=8, help="how many customers come")
    parser.add_argument("--log", type=Path, help="a file for the trace of the whole team")
    parser.add_argument("--restart", action="store_true", help="of the robots' private broker")
    options = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        if options.member is None:
            return run_all(options)
        network = {
            "rabbit_user": os.environ["RABBIT_USER"],
            "rabbit_password": os.environ["RABBIT_PASSWORD"],
            "mesh_encryption_key": os.environ["MESH_KEY"],
            "rabbit_host": options.host,
            "addresses": options.addresses,
        }
        if options.member == "base":
            return run_base(options, network)
        run_robot(options.member, network)
    return 0


def run_base(
    options: argparse.Namespace,
    network: dict[str, Any],
    disturb: Callable[[], None] | None = None,
) -> int:
    """Run the base until the last order is done, and say who did what.

    ``disturb`` is called after the third order.
    """
    with ExitStack() as stack:
        if options.log:
            stack.enter_context(keeping_log(options.log, network))
        base = stack.enter_context(Base(options.team, options.orders, **network))
        for line in base.lines:
            stack.enter_context(line).start_at(speaking)
        base.enable_snoop_trace()
        base.start_at(gathering)
        while not (base.has_finished.wait(0.1) or base.wait(0)):
            if disturb is not None and base.done.total() >= 3:
                disturb()
                disturb = None
        lost = base.nets.stats().mesh.gaps
    for robot in options.team:
        shelves = sorted(shelf for name, shelf in base.done.elements() if name == robot)
        print(f"{robot} was at the shelves {', '.join(map(str, shelves))}")
    print(f"{options.orders} orders, {base.done.total()} done, {lost} events lost")
    return 0


def run_robot(name: str, network: dict[str, Any]) -> None:
    """Run a robot until the process is asked to end."""
    with Robot(name, **network) as robot:
        robot.enable_snoop_trace()
        robot.start_at(free)
        robot.wait()


@contextlib.contextmanager
def keeping_log(path: Path, network: dict[str, Any]) -> Iterator[None]:
    """Write the trace of all other charts into a file."""
    with path.open("a", encoding="utf-8") as file:

        def write(name: str, line: str) -> None:
            file.write(line + "\n")
            file.flush()

        log = NetworkedActiveObject("log", tx_routing_key="log", on_trace_rx=write, **network)
        with log:
            log.start_at(speaking)
            log.enable_snoop_trace()
            yield


def run_all(options: argparse.Namespace) -> int:
    """Run the whole team on this machine, at two private brokers."""
    with LocalBroker("127.0.0.2") as one, LocalBroker("127.0.0.3", password=one.password) as two:
        key = Fernet.generate_key()
        environment = {
            **os.environ,
            "RABBIT_USER": one.user,
            "RABBIT_PASSWORD": one.password,
            "MESH_KEY": key.decode(),
        }
        places = [str(one.address), str(two.address)]
        where = ["--host", places[1], "--addresses", *places]
        robots = [
            subprocess.Popen(
                [sys.executable, __file__, robot, *where],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            for robot in options.team
        ]
        try:
            network = {
                "rabbit_user": one.user,
                "rabbit_password": one.password,
                "mesh_encryption_key": key,
                "rabbit_host": places[0],
                "addresses": places,
            }
            return run_base(options, network, two.restart if options.restart else None)
        finally:
            for process in robots:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
