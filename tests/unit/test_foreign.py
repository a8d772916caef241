"""What others write does nothing but be read, wherever it is shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.closings import closed_by_broker
from miros_rabbitmq.foreign import hidden, in_words, on_one_line, text_of
from miros_rabbitmq.urls import Address

EVIL = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m\x90q\x9c",
    "one\r\nWARNING forged",
    "one\x0btwo\x0cthree\x85four\u2028five\u2029six",
    "\u202egnp.exe\u2066\u200f\u061c",
    "ro\u200bbot\ufeff\u2060",
    "\ud800 half",
    "nul\x00 del\x7f back\x08",
]
"""What a terminal, a pager or a reader of logs would act on."""

_HARMLESS_FORMAT = {"\u200c", "\u200d", "\u00ad"}


def is_harmless(text: str) -> bool:
    """Whether a text is one line that moves, colours, hides and turns nothing."""
    text.encode()
    return len(text.splitlines()) <= 1 and not any(
        unicodedata.category(mark) in {"Cc", "Zl", "Zp", "Cs"}
        or unicodedata.bidirectional(mark) in {"LRE", "RLE", "PDF", "LRO", "RLO"}
        or unicodedata.bidirectional(mark) in {"LRI", "RLI", "FSI", "PDI"}
        or mark in "\u061c\u200b\u200e\u200f\ufeff"
        for mark in text
    )


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_the_check_itself_knows_each_evil_text(text: str) -> None:
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        assert is_harmless(text)


@given(st.text(st.characters(exclude_categories=())) | st.sampled_from(EVIL) | st.binary())
def test_any_text_becomes_one_harmless_line(text: str | bytes) -> None:
    shown = on_one_line(text_of(text))
    assert is_harmless(shown)
    assert on_one_line(shown) == shown
    assert is_harmless(in_words(text))


@pytest.mark.parametrize("code", [0, 200, 311, 320, *range(402, 407), 501, 506, 530, 540, 541, 999])
@pytest.mark.parametrize("text", EVIL, ids=ascii)
@pytest.mark.parametrize("begin", ["", "access to queue '", "no queue '", "vhost '", "user '"])
def test_whatever_a_broker_closes_with_is_harmless(code: int, text: str, begin: str) -> None:
    fault = closed_by_broker(Address("10.0.0.1"), code, f"{begin}{text}'", "robot", "/")
    assert is_harmless(str(fault))


@given(st.text(st.characters(codec="utf-8")))
def test_text_of_people_stays_as_it_is(text: str) -> None:
    people = "".join(mark for mark in text if mark.isprintable())
    assert on_one_line(people) == people
    assert on_one_line("👩\u200d🔧 نمی\u200cخواهم") == "👩\u200d🔧 نمی\u200cخواهم"


def test_a_text_is_short_and_without_runs_of_spaces() -> None:
    assert in_words("two\nlines\x1b[31m and \x07 more") == "two lines [31m and more"
    assert in_words("x" * 5_000, 120) == "x" * 120 + "..."
    assert in_words(b"caf\xc3\xa9 \xff") == "caf\u00e9 \ufffd"
    assert in_words({"a": "\x1b"}) == "{'a': '\\x1b'}"


@given(st.text(min_size=3), st.text(), st.text())
def test_a_secret_that_is_said_back_is_not_shown(secret: str, before: str, after: str) -> None:
    secret = f"<{secret}>"
    shown = in_words(f"{before}{secret}{after}", 10_000, secret=secret)
    assert secret not in shown


def test_a_password_that_is_the_name_hides_nothing() -> None:
    assert hidden("guest", "guest") == ""
    assert hidden("rabbit", "robot") == "rabbit"
