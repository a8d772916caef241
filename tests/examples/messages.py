"""Every text that the package may show in an error or a log line, found in its source.

A text is found by its looks, not by where it goes: a log line may be worded far from the call that
writes it. So every string in the source counts that has three words, besides docstrings and what
only DEBUG shows; and every string of a line that is logged as a warning or worse, however short.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .documents import ROOT

PACKAGE = ROOT / "miros_rabbitmq"

_BAD = frozenset({"warning", "error", "exception", "critical", "log"})
_QUIET = frozenset({"debug"})
_WORD = re.compile(r"[A-Za-z]{2,}")
_HOLE = "\0"
"""Stands for what is filled in."""

_PERCENT = re.compile(r"%[-,.\d]*[sdrgf]")
_BRACES = re.compile(r"\{\w*(?:!r)?\}")
_OF_FORMAT = frozenset({"closings.py", "faults.py"})
"""The modules whose texts are filled in by `str.format`."""

_REGEX = re.compile(r"\.\*|\(\?|\\[sSwWd]|\w\|\w")


@dataclass(frozen=True)
class Text:
    """One text of the source.

    Args:
        module: its file, from the package's folder.
        line: its line there.
        words: it, with a NUL for each part that is filled in.
        logged: the method of the logger that it is an argument of; otherwise empty.
    """

    module: str
    line: int
    words: str
    logged: str = ""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches every line or error that has this text."""
        parts = (" ".join(part.split()) for part in self.words.split(_HOLE))
        return re.compile(".*?".join(re.escape(part) for part in parts if part))

    @property
    def longest_part(self) -> str:
        """The longest part that is always the same."""
        return max((part.strip() for part in self.words.split(_HOLE)), key=len)

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.words.replace(_HOLE, '...')}"


def texts(least_words: int = 3) -> list[Text]:
    """Every text that a user may see, in the order of the source.

    Args:
        least_words: how many words make a string a text.
    """
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        for text in _texts_in(ast.parse(path.read_text(encoding="utf-8")), module, ""):
            words = len(_WORD.findall(text.words.replace(_HOLE, " ")))
            is_line = text.logged in _BAD and words > 0
            if (
                is_line or (words >= least_words and " " in text.words.strip())
            ) and not _REGEX.search(text.words):
                found.append(text)
    return found


def _texts_in(node: ast.AST, module: str, logged: str) -> Iterator[Text]:
    words = _words_of(node, module)
    if words is not None and isinstance(node, ast.expr):
        yield Text(module, node.lineno, words, logged)
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.FormattedValue):
                yield from _texts_in(part.value, module, "")
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        method = node.func.attr
        if method in _QUIET:
            return
        if method in _BAD | {"info"} and "log" in ast.unparse(node.func.value).lower():
            logged = method
    for child in ast.iter_child_nodes(node):
        yield from _texts_in(child, module, logged)


def _words_of(node: ast.AST, module: str) -> str | None:
    """The text of a literal, with a NUL for each part that is filled in; `None` for others."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else _HOLE for part in node.values
        )
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return None
    holes = _BRACES if Path(module).name in _OF_FORMAT else _PERCENT
    return holes.sub(_HOLE, node.value)


TESTS = ROOT / "tests"


def quoted() -> set[str]:
    """Every piece of text of two words that some test has, but for the tests of the page."""
    found = set()
    for path in TESTS.rglob("*.py"):
        if path.name in ("messages.py", "test_troubleshooting.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Also of a regular expression: between what may be anything, without backslashes.
                for piece in (node.value, *re.split(r"\.[*+]\??|\|", node.value)):
                    plain = " ".join(re.sub(r"\\(.)", r"\1", piece).split()).strip("^$ ")
                    if len(plain) > 8 and len(_WORD.findall(plain)) > 1:
                        found.add(plain)
    return found


_SHORTEST = 11
"""What is no longer may stand in a test by chance."""

_RUN = 4
"""So many words in a row are a quotation, also where they stand between other words."""


def is_quoted(text: Text, pieces: set[str]) -> bool:
    """Whether a test quotes a part of a text."""
    parts = [" ".join(part.split()) for part in text.words.split(_HOLE)]
    runs = {
        " ".join(words[at : at + _RUN])
        for words in (part.split() for part in parts)
        for at in range(len(words) - _RUN + 1)
    }
    is_long = sum(map(len, parts)) > _SHORTEST
    return any(
        (is_long and text.pattern.search(piece))  # all of it
        or any(run in piece for run in runs)
        or any(piece in part or (len(part) > _SHORTEST and part in piece) for part in parts)
        for piece in pieces
    )


_TERM = re.compile(r"^(?: *\* - | *\* |)``(.+?)``(?: \(.*\)|: .*)?$", re.MULTILINE)


def entries_of(page: str) -> list[str]:
    """The lines that a page explains: in the first cell of a table, in a list, or as terms."""
    return _TERM.findall((ROOT / page).read_text(encoding="utf-8"))
