"""The Python blocks of the documents, and which of them are whole programs; and other blocks."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"(?:^\.\. whole program: (?P<name>\S+)\n\n)?"
    r"^(?P<indent> *)\.\. code-block:: python\n(?P<code>(?:(?P=indent) +.*\n|\s*\n)+)",
    re.MULTILINE,
)
_PRINTED = re.compile(r"It prints::\n\n((?: +.*\n)+)")


@dataclass(frozen=True)
class Block:
    """One Python block.

    Args:
        line: the number of the line before its first one.
        code: it.
        program: the name of the file that it makes, for a whole program; otherwise empty.
        printed: what the page says next that it prints.
    """

    line: int
    code: str
    program: str = ""
    printed: str = ""


def blocks_of(document: str) -> list[Block]:
    """Every Python block of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        after = re.match(_PRINTED, text[match.end() :])
        found.append(
            Block(
                text[: match.start("code")].count("\n"),
                textwrap.dedent(match["code"]),
                match["name"] or "",
                textwrap.dedent(after[1]) if after else "",
            )
        )
    return found


def programs_of(document: str) -> dict[str, Block]:
    """The whole programs of a document, by their names."""
    return {block.program: block for block in blocks_of(document) if block.program}


def other_blocks_of(document: str, language: str) -> list[str]:
    """The blocks of a document in another language, such as ``sh`` or ``ini``."""
    text = (ROOT / document).read_text(encoding="utf-8")
    block = rf"^( *)\.\. code-block:: {re.escape(language)}\n((?:\1 +.*\n|\s*\n)+)"
    return [
        textwrap.dedent(found[2]).strip("\n") + "\n"
        for found in re.finditer(block, text, re.MULTILINE)
    ]
