"""Local networks made of network namespaces: a bridge as the switch, a veth cable to each host.

Every namespace is made and removed by the test that uses it, has no cable to the machine's own
interfaces, and so nothing that runs in it can reach any network but the test's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import miros_rabbitmq

from ..helpers import scaled

PREFIX = "miros-lan"
_numbers = itertools.count()


def why_not() -> str:
    """Why this machine cannot have network namespaces; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "making a network namespace takes root"
    try:
        _ip("netns", "add", f"{PREFIX}-trial-{os.getpid()}")
        _ip("netns", "delete", f"{PREFIX}-trial-{os.getpid()}")
    except FileNotFoundError:
        return "there is no program ip (package iproute2)"
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made here: {error.stderr.strip()}"
    return ""


class Namespace:
    """One machine with a network of its own; at first it has only a loopback."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._running: list[subprocess.Popen[str]] = []
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        """Run the program ``ip`` on this machine."""
        return _ip("-n", self.name, *arguments)

    def start(
        self, code: str, *, path: str | None = None, folder: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a Python program on this machine; it ends with the namespace at the latest."""
        environment = {**os.environ, "PYTHONPATH": str(Path(miros_rabbitmq.__file__).parents[1])}
        if path is not None:
            environment["PATH"] = path
        process = subprocess.Popen(
            # By its whole path, because the program's PATH need not contain ip.
            [_program("ip"), "netns", "exec", self.name, sys.executable, "-c", code],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def run(self, code: str, *, path: str | None = None) -> Any:
        """Run a Python program on this machine, and return what it printed last, as JSON."""
        return finish(self.start(code, path=path))

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(scaled(25))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        _ip("netns", "delete", self.name)


class Lan:
    """A switch with machines on it."""

    def __init__(self, network: str) -> None:
        self.network = IPv4Network(network)
        self._switch = Namespace()
        self._hosts: list[Namespace] = []
        self._ports = itertools.count()
        self._port_of: dict[tuple[str, str], str] = {}
        self._switch.ip("link", "add", "switch", "type", "bridge")
        self._switch.ip("link", "set", "switch", "up")

    def host(self, *numbers: int) -> Namespace:
        """Add a machine with these addresses, each the number of a host in the network."""
        machine = Namespace()
        self._hosts.append(machine)
        self.plug_in(machine, "eth0", *numbers)
        return machine

    def plug_in(self, machine: Namespace, interface: str, *numbers: int) -> None:
        """Connect a machine to this switch, by an interface with these addresses."""
        port = f"port{next(self._ports)}"
        peer = ("peer", "name", port, "netns", self._switch.name)
        machine.ip("link", "add", interface, "type", "veth", *peer)
        self._port_of[machine.name, interface] = port
        self._switch.ip("link", "set", port, "master", "switch", "up")
        for number in numbers:
            address = f"{self.address(number)}/{self.network.prefixlen}"
            machine.ip("address", "add", address, "dev", interface)
        machine.ip("link", "set", interface, "up")

    def pull_out(self, machine: Namespace, interface: str) -> None:
        """Take the cable out of the switch, and nothing off the machine."""
        port = self._port_of[machine.name, interface]
        self._switch.ip("link", "set", port, "down")

    def put_back(self, machine: Namespace, interface: str) -> None:
        """Put the cable in again."""
        self._switch.ip("link", "set", self._port_of[machine.name, interface], "up")

    def address(self, number: int) -> str:
        return str(self.network[number])

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._switch.close)
            for machine in self._hosts:
                stack.callback(machine.close)


@contextlib.contextmanager
def lan_of(network: str) -> Iterator[Lan]:
    lan = Lan(network)
    try:
        yield lan
    finally:
        lan.close()


def finish(process: subprocess.Popen[str]) -> Any:
    """Wait for a program, and return its last line, as JSON."""
    printed, complaints = process.communicate(timeout=scaled(30))
    assert process.returncode == 0, complaints
    return json.loads(printed.splitlines()[-1])


def _program(name: str) -> str:
    for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise FileNotFoundError(name)


def _ip(*arguments: str) -> str:
    done = subprocess.run(
        [_program("ip"), *arguments], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout
