"""Finds the programs of others that this package runs: ``ping``, ``arp``, RabbitMQ's own.

They are looked for in the absolute folders of ``PATH`` alone. A relative one, such as ``.`` or an
empty one, is the working directory, where anybody may have put a program; and Windows would look
there first.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_SUFFIXES = ("", ".exe", ".bat", ".cmd") if os.name == "nt" else ("",)
"""What the names of programs may end with."""


def find_program(name: str) -> str:
    """Return the absolute path of a program. May be called from any thread.

    Args:
        name: its name, without a folder.

    Raises:
        FileNotFoundError: it is in no absolute folder of ``PATH``.
    """
    path = os.environ.get("PATH", os.defpath)
    folders = [one for one in path.split(os.pathsep) if Path(one).is_absolute()]
    # Not by `shutil.which`, as `shutil` loads a third of a megabyte of modules.
    for folder in folders:
        for suffix in _SUFFIXES:
            program = Path(folder, name + suffix)
            if program.is_file() and os.access(program, os.X_OK):
                return str(program)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
