"""The files that the diagrams are drawn into, and which of them are out of date."""

from __future__ import annotations

from pathlib import Path

from .drawings import DRAWINGS
from .language import page_style

PICTURES = Path(__file__).parents[1] / "pictures"
PAGE_STYLE = Path(__file__).parents[1] / "_ext" / "static" / "diagrams.css"


def draw_all() -> dict[Path, str]:
    """What each file has to hold."""
    drawn = {PICTURES / f"{name}.svg": draw().svg() for name, draw in DRAWINGS.items()}
    return {**drawn, PAGE_STYLE: page_style()}


def out_of_date() -> list[str]:
    """The names of the files that are not as the sources have them, or that have no source."""
    drawn = draw_all()
    stale = [
        path.name
        for path, text in drawn.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return sorted([*stale, *(path.name for path in _orphans(drawn))])


def write_all() -> list[str]:
    """Draw what is out of date, and remove what has no source; gives the names of the files."""
    stale = out_of_date()
    drawn = draw_all()
    for path, text in drawn.items():
        if path.name in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in _orphans(drawn):
        path.unlink()
    return stale


def _orphans(drawn: dict[Path, str]) -> list[Path]:
    return [path for path in PICTURES.glob("*.svg") if path not in drawn]
