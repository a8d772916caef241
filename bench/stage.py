"""The brokers and the processes of the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pika
from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.wire.envelope import MESH

ROOT = Path(__file__).parents[1]

VHOSTS = 50

END_S = 10.0
"""How long a role may take to end after its last line."""


class Role:
    """A process that plays one part (see `roles`).

    Args:
        name: the module in ``bench.roles`` and the function in it, as in ``raw.raw_echo``.
        arguments: what the function is called with.
        launcher: a program and its options that runs the interpreter, such as a profiler.
    """

    def __init__(self, name: str, arguments: dict[str, Any], launcher: Sequence[str] = ()) -> None:
        module, _, function = name.partition(".")
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", f"bench.roles.{module}", function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.tell(arguments)

    def tell(self, what: Any) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next line; output of a launcher is skipped."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line[0] in '"[{':
                return json.loads(line)
        raise RuntimeError(f"{self.process.args!r} has ended")

    def ask(self, what: Any) -> Any:
        """Send it a line, and wait for its answer."""
        self.tell(what)
        return self.hear()

    def end(self) -> Any:
        """Have it end, and wait for its last line."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None
        return self.hear()


Part = tuple[str, dict[str, Any]]


@contextlib.contextmanager
def roles(*parts: Part, launcher: Sequence[Sequence[str]] = ()) -> Iterator[list[Role]]:
    """Start roles, each when the one before is ready; they end by themselves, or are killed."""
    playing: list[Role] = []
    try:
        for number, (name, arguments) in enumerate(parts):
            playing.append(Role(name, arguments, launcher[number] if launcher else ()))
            assert playing[-1].hear() == "ready"
        yield playing
        for role in playing:
            with contextlib.suppress(subprocess.TimeoutExpired):
                role.process.communicate(timeout=END_S)
    finally:
        for role in playing:
            role.process.kill()
            role.process.communicate()


class Stage:
    """The private nodes that measurements are taken on.

    Args:
        a: one of two that form a system.
        b: the other.
    """

    def __init__(self, a: LocalBroker, b: LocalBroker) -> None:
        self.key = Fernet.generate_key().decode()
        self.urls = str(a.url()), str(b.url())
        self.version = a.ctl("version").strip()
        addresses = [str(a.address), str(b.address)]
        self.charts = [chart_at(own, self.key, addresses) for own in (a, b)]

    def at(self, own: int, **more: Any) -> dict[str, Any]:
        """The arguments of a role that consumes at one broker and publishes to the other."""
        return {
            "in_url": self.urls[own],
            "out_url": self.urls[1 - own],
            "chart": self.charts[own],
            **more,
        }


@contextlib.contextmanager
def open_stage() -> Iterator[Stage]:
    """Start the two nodes."""
    with LocalBroker("127.0.0.2") as a, LocalBroker("127.0.0.3", password=a.password) as b:
        yield Stage(a, b)


class Wide:
    """One node with virtual hosts that stand for many brokers.

    Each has a queue that takes the events and keeps few of them: a broker without listeners would
    send every message back, which is another cost.
    """

    def __init__(self, node: LocalBroker, vhosts: Sequence[str]) -> None:
        self.urls = [str(node.url(vhost)) for vhost in vhosts]
        own = chart_at(node, Fernet.generate_key().decode(), [str(node.address)])
        self.chart = {**own, "rabbit_vhost": vhosts[0]}
        for url in self.urls:
            add_sink(url)


def add_sink(url: str) -> None:
    """Bind a queue that takes every event of the mesh and keeps few of them."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_declare(MESH, exchange_type="topic", durable=True)
    channel.queue_declare("bench.sink", durable=True, arguments={"x-max-length": 10})
    channel.queue_bind("bench.sink", MESH, "#")
    connection.close()


@contextlib.contextmanager
def open_wide() -> Iterator[Wide]:
    """Start the node with its virtual hosts."""
    vhosts = [f"v{number}" for number in range(VHOSTS)]
    with LocalBroker("127.0.0.2", vhosts=vhosts) as node:
        yield Wide(node, vhosts)


def chart_at(own: LocalBroker, key: str, addresses: list[str]) -> dict[str, Any]:
    """The arguments of a chart whose broker is this one."""
    return {
        "rabbit_user": own.user,
        "rabbit_password": own.password,
        "mesh_encryption_key": key,
        "rabbit_host": own.host,
        "rabbit_port": own.port,
        "addresses": addresses,
    }


def machine(rabbitmq: str) -> dict[str, str]:
    """What the figures depend on, without anything that identifies the machine."""
    packages = ("miros-rabbitmq", "miros", "pika", "aio-pika", "cryptography")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "RabbitMQ": rabbitmq,
        **{package: version(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "load before the run": f"{load:.1f}",
    }
