"""How errors name what they got."""

from __future__ import annotations

import re
import ssl
from collections import OrderedDict
from pathlib import Path

import pytest

import miros_rabbitmq
from miros_rabbitmq.wording import a_value_of, with_article


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "an int"),
        ("x", "a str"),
        ({}, "a dict"),
        (OrderedDict(), "an OrderedDict"),
        (ssl.PROTOCOL_TLS_CLIENT, "a _SSLMethod"),
        (None, "a NoneType"),
    ],
)
def test_a_value_has_its_article(value: object, words: str) -> None:
    assert a_value_of(value) == words


@pytest.mark.parametrize(
    "words",
    [
        "an SSLContext",
        "a URL",
        "a User",
        "a Unit",
        "an Update",
        "an Order",
        "an X",
        "a OneShot",
        "a ",
    ],
)
def test_a_name_has_the_article_of_its_sound(words: str) -> None:
    assert with_article(words.partition(" ")[2]) == words


def test_no_text_puts_a_fixed_article_before_the_name_of_a_type() -> None:
    folder = Path(miros_rabbitmq.__file__).parent
    for path in folder.rglob("*.py"):
        found = re.search(r"\ban? \{type\(", path.read_text(encoding="utf-8"))
        assert found is None, path
