"""Plays another role, and says at its end what it has cost: how much Python has run, and so on.

What Python runs does not depend on how busy the machine is, as times do.
"""

from __future__ import annotations

import importlib
import resource
import sys
import threading
from types import FrameType
from typing import Any

from .talk import play, say

_calls: dict[int, int] = {}
_instructions: dict[int, int] = {}
"""By thread, as no two of them may count at the same place."""


def _trace(frame: FrameType, event: str, _: object) -> Any:
    if event == "call":
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        me = threading.get_ident()
        _calls[me] = _calls.get(me, 0) + 1
    elif event == "opcode":
        me = threading.get_ident()
        _instructions[me] = _instructions.get(me, 0) + 1
    return _trace


def counted(role: str, traced: bool, **arguments: Any) -> None:
    """Play a role to its end, then report.

    Args:
        role: its module and function.
        traced: whether to count calls and instructions of Python, which makes all much slower;
            otherwise, processor time and switches are counted.
        **arguments: of the role.
    """
    module, _, function = role.partition(".")
    play_it = getattr(importlib.import_module(f"bench.roles.{module}"), function)
    if traced:
        threading.settrace(_trace)
        sys.settrace(_trace)
    play_it(**arguments)
    sys.settrace(None)
    threading.settrace(None)
    used = resource.getrusage(resource.RUSAGE_SELF)
    say(
        {
            "calls": sum(_calls.values()),
            "instructions": sum(_instructions.values()),
            "cpu_us": (used.ru_utime + used.ru_stime) * 1e6,
            "waits": used.ru_nvcsw,
        }
    )


if __name__ == "__main__":
    play(globals())
