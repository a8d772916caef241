"""A program on a terminal of its own."""

from __future__ import annotations

import codecs
import os
import pty
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..helpers import scaled


class OnTerminal:
    """A program on a terminal of its own."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        # setsid --ctty makes the terminal the program's own, so that it passes ^C on.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            env=environment,
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end in a character

    def read_until(self, text: str | None) -> None:
        """Read until the output contains a text, or until its end for None."""
        while text is None or text not in self.output:
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                part = b""
            if not part:
                assert text is None, f"{text!r} is not in {self.output}"
                return
            self.output += self._decoder.decode(part)

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def close(self) -> None:
        os.close(self._ours)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(scaled(25))
        self.process.kill()
        self.process.wait()


@contextmanager
def on_terminal(
    command: list[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[OnTerminal]:
    program = OnTerminal(command, environment, folder)
    try:
        yield program
    finally:
        program.close()
