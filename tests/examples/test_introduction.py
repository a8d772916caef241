"""The program of the introduction prints what the page says, and the pages lead on to others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..helpers import complaints, scaled
from .documents import ROOT, programs_of
from .test_programs import environment, here

__all__ = ["environment"]

END = "Where to go next"


@pytest.mark.usefixtures("rabbitmq_installed")
def test_the_program_of_the_introduction_prints_what_the_page_says(
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    (program,) = programs_of("docs/index.rst").values()
    assert program.printed
    (tmp_path / program.program).write_text(here(program.code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program.program],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=True,
    )
    assert done.stdout == program.printed
    assert complaints(done.stderr) == ""


def test_every_page_ends_with_where_to_go_next() -> None:
    for page in (ROOT / "docs").glob("*.rst"):
        text = page.read_text(encoding="utf-8")
        titles = re.findall(r"^(.+)\n-+$", text, re.MULTILINE)
        assert titles[-1:] == [END], page.name
        items = re.findall(r"^- .*:doc:", text.rpartition(END)[2], re.MULTILINE)
        assert len(items) in range(2, 5), page.name


def test_every_term_that_a_page_links_to_is_in_the_glossary_once() -> None:
    text = (ROOT / "docs/glossary.rst").read_text(encoding="utf-8")
    terms = re.findall(r"^   (\S.*)$", text, re.MULTILINE)
    terms.remove(":sorted:")
    assert len(terms) == len({term.lower() for term in terms})
    assert terms == sorted(terms, key=str.lower)


def test_a_page_leads_to_each_term_of_the_glossary_once() -> None:
    """At its first mention. Where words are links everywhere, nobody follows one."""
    linked = 0
    for page in sorted((ROOT / "docs").glob("*.rst")):
        if page.name != "glossary.rst":
            text = page.read_text(encoding="utf-8")
            terms = re.findall(r":term:`(?:[^`<]*<)?([^`>]+)>?`", text)
            assert len(terms) == len(set(terms)), (page.name, sorted(terms))
            linked += len(terms)
    assert linked > 100
