"""The processes of a private RabbitMQ node: ``NodeProcess``, which no node outlives.

This module starts a node in a folder of its own, waits until it is ready, sends it signals and
reaps it; and it finds the ports on which the node can listen. ``node_files`` knows what is in the
folder.

- A node reports that it is ready by the protocol of ``sd_notify(3)``, as it would to systemd: when
  its virtual hosts and users exist and its port is open. Nothing is polled.
- A watchdog, a small shell process, reads from a pipe to which only this process can write. When
  the pipe ends, because of ``end()`` or because this process has died in whatever way, the watchdog
  kills the node and removes its folder.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..exceptions import LocalBrokerError
from ..small_file import is_private_folder

KILL_TIMEOUT_S = 10.0
"""How long the kernel may take to end a killed process; only a stuck disk makes it so slow."""

LOOK_S = 0.2
"""How soon we notice that a booting node has died, or is no longer wanted."""

SLOW_AFTER_S = 10.0
"""After so long, somebody who waits for a boot wants to know what for."""

_PORTS = range(10_000, 32_768)
"""Below the ports that Linux gives to outgoing connections, so that no connection takes the port
while the node is down."""

_PORT_ATTEMPTS = 100

# $0 is the node's folder. Each process of the node writes its id into the pipe before it becomes
# what it is to be. The kernel uses ids again: only a process with this HOME is one of the node's.
_WATCHDOG = """
ids=
while read -r id; do ids="$ids $id"; done
for id in $ids; do
    [ ! -d /proc/self ] || grep -qaF "HOME=$0" "/proc/$id/environ" 2>/dev/null || continue
    kill -KILL "-$id" 2>/dev/null
done
tries=0
while rm -rf -- "$0" 2>/dev/null; [ -e "$0" ] && [ $tries -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"""

# $0 is the console log. The shell's standard output is the watchdog's pipe; the redirection lets
# go of it, so that only the owner holds it from then on.
_ANNOUNCE = 'echo $$; exec "$@" </dev/null >>"$0" 2>&1'


_PLAIN = re.compile(r"/[A-Za-z0-9_./+-]*")
"""RabbitMQ's scripts do not quote the paths they use, and Erlang reads quotes and percents."""

_LONGEST_FOLDER = 64
"""With what we and the node add to it, the path of a socket stays within 107 bytes (unix(7))."""

_USUAL_FOLDERS = "/tmp", "/var/tmp", "/dev/shm"  # noqa: S108 - a new folder is made in it


def plain_folder() -> str:
    """The folder for temporary files, or another one if a node could not work in it.

    Nor is one taken in which others could replace the node's folder, with its cookie and users.

    Raises:
        LocalBrokerError: there is none.
    """
    wanted = tempfile.gettempdir()
    for folder in (wanted, os.path.realpath(wanted), *_USUAL_FOLDERS):
        is_plain = _PLAIN.fullmatch(folder) is not None and len(folder) <= _LONGEST_FOLDER
        if is_plain and os.access(folder, os.W_OK | os.X_OK) and is_private_folder(folder):
            return folder
    raise LocalBrokerError(
        f"RabbitMQ cannot work in {wanted!r}, which has a space, another special character, or "
        f"more than {_LONGEST_FOLDER} characters, or in which others can replace a folder: set "
        "TMPDIR to a plain path of a folder that is yours"
    )


class Boot(enum.Enum):
    """How a boot ended."""

    READY = "is ready"
    ENDED = "ended while it started"
    LATE = "was not ready in time"
    STOPPED = "was stopped while it booted"


class NodeProcess:
    """A folder, the node that runs in it, and the watchdog over both.

    The constructor makes the folder and starts the watchdog; ``end()`` removes both. In between,
    any number of nodes run in the folder, one after the other. For one thread at a time, except
    that ``is_running`` and ``signal`` may be used from others.
    """

    def __init__(self) -> None:
        self.folder: Path = Path(tempfile.mkdtemp(prefix="miros-rabbitmq-", dir=plain_folder()))
        self._node: subprocess.Popen[bytes] | None = None
        try:
            reader, self._pipe = os.pipe()
        except BaseException:
            self._remove_folder()
            raise
        try:
            self._watchdog = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHDOG, os.fspath(self.folder)],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            self._close_pipe()
            self._remove_folder()
            raise
        finally:
            os.close(reader)

    @property
    def is_running(self) -> bool:
        """Whether the node's process lives, even if it is paused."""
        node = self._node
        return node is not None and node.poll() is None

    def boot(
        self,
        program: str,
        environment: Mapping[str, str],
        *,
        notify: Path,
        console: Path,
        deadline: float,
        is_unwanted: Callable[[], bool],
        is_slow: Callable[[], None],
    ) -> Boot:
        """Run a node, and wait until it is ready. If it does not get ready, it may still run.

        Args:
            program: the program that is the node.
            environment: all of its environment variables.
            notify: the path for the socket on which the node reports that it is ready.
            console: the file for its output.
            deadline: when it has to be ready at the latest, as ``time.monotonic`` says it.
            is_unwanted: returns True when there is no need to wait any longer.
            is_slow: called once, if the node is not ready after `SLOW_AFTER_S`.
        """
        if self._pipe < 0 or is_unwanted():
            return Boot.STOPPED
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
            notify.unlink(missing_ok=True)
            news.bind(os.fspath(notify))
            # A session of its own: Ctrl-C in the terminal is for this process alone.
            self._node = node = subprocess.Popen(
                ["/bin/sh", "-c", _ANNOUNCE, os.fspath(console), program],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=self._pipe,
                start_new_session=True,
            )
            slow_s = time.monotonic() + SLOW_AFTER_S
            while True:
                news.settimeout(max(0.001, min(LOOK_S, deadline - time.monotonic())))
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in news.recv(4096).splitlines():
                        return Boot.READY
                # A signal handler may have ended the node, in this very thread.
                if is_unwanted() or self._node is not node:
                    return Boot.STOPPED
                if node.poll() is not None:
                    return Boot.ENDED
                if time.monotonic() >= deadline:
                    return Boot.LATE
                if time.monotonic() >= slow_s:
                    slow_s = math.inf
                    is_slow()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the node's processes, if it runs. From any thread; does not wait."""
        node = self._node
        if node is not None and node.poll() is None:
            # The group keeps its id until its first process is reaped.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, number)

    def shut_down(self, grace: float) -> None:
        """End the node's processes; the folder stays.

        Args:
            grace: for how many seconds the node may close its connections before it is killed.
        """
        if grace > 0:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a paused node acts on SIGTERM only when it goes on
            if self._reap(grace):
                return
        self.signal(signal.SIGKILL)
        self._reap(KILL_TIMEOUT_S)

    def end(self, grace: float) -> None:
        """End the node, the watchdog and the folder. Idempotent."""
        self.shut_down(grace)
        self._close_pipe()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._watchdog.wait(KILL_TIMEOUT_S)

    def disown(self) -> None:
        """Forget everything, in a forked child: it belongs to the parent."""
        for process in (self._node, self._watchdog):
            if process is not None:
                process.returncode = 0  # not a child of this process: nothing may wait for it
        self._node = None
        self._close_pipe()  # or the watchdog would wait for the end of this child, too

    def _remove_folder(self) -> None:
        """Remove the folder, which is empty; unlike `shutil.rmtree`, this needs no descriptor."""
        with contextlib.suppress(OSError):  # the watchdog may be faster
            self.folder.rmdir()

    def _reap(self, timeout: float) -> bool:
        """Wait for the node's process to end; False if it has not after ``timeout`` seconds."""
        node = self._node
        if node is None:
            return True
        try:
            node.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._node = None
        return True

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            pipe, self._pipe = self._pipe, -1
            os.close(pipe)


def free_port(host: str, other_than: int = 0) -> int:
    """Find a TCP port of ``host`` on which nothing listens now.

    Args:
        host: an IPv4 address of this machine.
        other_than: a port that is not to be chosen.

    Raises:
        LocalBrokerError: nothing can listen on this host.
    """
    choose = secrets.SystemRandom()
    error: OSError | None = None
    for _ in range(_PORT_ATTEMPTS):
        port = choose.choice(_PORTS)
        if port == other_than:
            continue
        error = why_not_free(host, port)
        if error is None:
            return port
    raise LocalBrokerError(f"cannot listen on {host}: {error}") from error


def why_not_free(host: str, port: int) -> OSError | None:
    """Why nothing can listen on a port now; `None` if it can.

    Args:
        host: an IPv4 address.
        port: a TCP port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the node does: connections that a dead node left in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as refused:
            return refused
    return None
