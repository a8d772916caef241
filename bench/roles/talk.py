"""How a role talks to the benchmark: a line of JSON each way."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EXCHANGE = "bench"

PAYLOAD = "x" * 32

QUIET_S = 0.003
"""Between two round trips: an idle system, as a chart that answers a person finds it."""

_output = sys.stdout  # a role may put something else in its place


def say(what: Any) -> None:
    """Report to the benchmark."""
    _output.write(json.dumps(what) + "\n")
    _output.flush()


def hear() -> Any:
    """Wait for the benchmark's next line; `None` when it has no more to say."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def asked() -> Iterator[Any]:
    """What the benchmark asks for, one after the other."""
    return iter(hear, None)


def play(names: Mapping[str, Any]) -> None:
    """Play the role that the command line names, with the arguments that come first."""
    names[sys.argv[1]](**hear())


def memory_mib() -> float:
    """What this process holds in memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def threads() -> int:
    """How many threads this process has, those of libraries included."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208  # entries that no path is made of
