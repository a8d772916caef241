"""What a test must give back: threads, file descriptors, child processes.

File descriptors and children are read from ``/proc``; where there is none, only threads count.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

_SINGLETONS = {"fifo active fabric", "lifo active fabric", "miros log"}
"""The event fabric of miros: two threads a process, started with its first chart, never ended. And
the thread that writes log lines for others, which ends a while after the last of them."""

_MIROS_WRITER = "thread_runner"
"""The function of miros's writer thread, of which there is one a process, never ended."""

_KEPT_OPEN = {"/dev/urandom", "/dev/null"}
"""Opened by the standard library on first use, and then kept."""


class Holdings(NamedTuple):
    """What the process holds at one moment."""

    threads: frozenset[threading.Thread]
    descriptors: Counter[str]
    children: Counter[str]
    """By command: a shared broker that a test restarts is another process of the same kind."""

    @classmethod
    def now(cls) -> Holdings:
        """Take stock."""
        threads = frozenset(thread for thread in threading.enumerate() if not _is_immortal(thread))
        return cls(threads, _descriptors(), _children())

    def since(self, before: Holdings) -> list[str]:
        """Describe what the process holds now and did not hold before."""
        return [
            *(f"thread {thread.name!r}" for thread in self.threads - before.threads),
            *(f"file descriptor of {what}" for what in self.descriptors - before.descriptors),
            *(f"child process {command}" for command in self.children - before.children),
        ]


def _is_immortal(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    return thread.name in _SINGLETONS or getattr(target, "__name__", "") == _MIROS_WRITER


def _descriptors() -> Counter[str]:
    """What the open descriptors stand for; sockets and pipes by kind, as their ids change."""
    found: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError):
        for number in os.listdir("/proc/self/fd"):
            # The descriptor of the listing itself is closed already.
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/self/fd/{number}")
                if target not in _KEPT_OPEN and not target.startswith("/proc/"):
                    found[target.partition(":")[0] if ":[" in target else target] += 1
    return found


def _children() -> Counter[str]:
    """The commands of all children, ended ones that nobody waited for included.

    By the parent that each process names: ``/proc/self/task/*/children`` goes by threads, and
    misses those whose thread is just ending.
    """
    found: Counter[str] = Counter()
    parent = str(os.getpid())
    for entry in Path("/proc").glob("[1-9]*/stat"):
        # A process may end meanwhile.
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state, parent.
            if entry.read_text(errors="replace").rpartition(")")[2].split()[1] == parent:
                found[_command(int(entry.parent.name))] += 1
    return found


def _command(process: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:80] or "ended, not waited for"
    return "gone"
