"""The processes of a private RabbitMQ node: ``NodeProcess``, which no node outlives.

Serves ``broker``. This module starts a node in a folder of its own, waits until it is ready, sends
it signals and reaps it. What is in the folder is ``node_files``' concern.

- A node tells that it is ready by the protocol of ``sd_notify(3)``, as it would tell systemd: after
  its virtual hosts and users are there and its port is open. Nothing is polled.
- A watchdog, a small shell process, reads a pipe whose only writer is this process. When that
  pipe ends, be it by ``end()`` or because this process died in any way, the watchdog kills the
  node and removes its folder.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

KILL_TIMEOUT_S = 10.0
"""How long the kernel may take to end a killed process; only a stuck disk needs so long."""

LOOK_S = 0.2
"""How soon a booting node that died without a word, or is no longer wanted, is noticed."""

# $0 is the node's folder. Each process that belongs to the node announces its id on the pipe
# before it becomes what it is. Ids are used again by the kernel, hence the look at HOME.
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

# $0 is the console log. The shell's standard output is the watchdog's pipe, which is let go by
# the redirection: from then on only the owner holds it.
_ANNOUNCE = 'echo $$; exec "$@" </dev/null >>"$0" 2>&1'


class Boot(enum.Enum):
    """What came of a boot."""

    READY = "is ready"
    ENDED = "ended while it started"
    LATE = "was not ready in time"
    STOPPED = "was stopped while it booted"


class NodeProcess:
    """A folder, the node that runs in it, and the watchdog over both.

    Making one makes the folder and starts the watchdog; ``end()`` removes both. In between, any
    number of nodes run in the folder, one after the other. One thread at a time; only
    ``is_running`` may be asked from others.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="miros-rabbitmq-"))
        self._node: subprocess.Popen[bytes] | None = None
        reader, self._pipe = os.pipe()
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
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            os.close(reader)

    @property
    def is_running(self) -> bool:
        """Whether the node's process lives, be it paused or not."""
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
    ) -> Boot:
        """Run a node, and wait until it is ready; else it may still be running.

        Args:
            program: what runs it.
            environment: all of its environment.
            notify: where the socket is put on which it tells that it is ready.
            console: the file that takes its output.
            deadline: until when it has to be ready, by ``time.monotonic()``.
            is_unwanted: tells that there is no need to wait any longer.
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
            while True:
                news.settimeout(max(0.001, min(LOOK_S, deadline - time.monotonic())))
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in news.recv(4096).splitlines():
                        return Boot.READY
                # A handler of a signal may have ended it in this very thread.
                if is_unwanted() or self._node is not node:
                    return Boot.STOPPED
                if node.poll() is not None:
                    return Boot.ENDED
                if time.monotonic() >= deadline:
                    return Boot.LATE

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the node's processes; the group keeps its id until it is reaped."""
        node = self._node
        if node is not None and node.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, number)

    def shut_down(self, grace: float) -> None:
        """End the node's processes, politely while ``grace`` seconds last; the folder stays."""
        if grace > 0:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a paused node takes SIGTERM only when it goes on
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
        """Forget it all, in a forked child: it is the parent's."""
        for process in (self._node, self._watchdog):
            if process is not None:
                process.returncode = 0  # not our child: never to be waited for
        self._node = None
        self._close_pipe()  # or the watchdog would wait for this child, too

    def _reap(self, timeout: float) -> bool:
        """Whether the node's process ended within ``timeout`` seconds."""
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
