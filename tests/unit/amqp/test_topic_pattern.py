"""The match of a topic exchange, against examples and against a model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miros_rabbitmq.amqp.topic_pattern import TopicPattern

from ...helpers import scaled

EXAMPLES = [
    # The pattern, keys that it matches, and keys that it does not.
    ("a.b.c", ["a.b.c"], ["", "a", "a.b", "a.b.c.d", "a.b.c.", ".a.b.c", "a.b.C"]),
    ("*", ["a", "*", "#", "long-word"], ["", "a.b", ".", "a."]),
    ("#", ["", "a", "a.b.c", ".", "..", "#"], []),
    ("a.*", ["a.b", "a.", "a.*"], ["a", "a.b.c", "b.a", "a.."]),
    ("*.b", ["a.b", ".b"], ["b", "a.b.c", "a.c", "a.a.b"]),
    ("a.#", ["a", "a.b", "a.b.c", "a."], ["", "b.a", "ab", "ab.c"]),
    ("#.c", ["c", "a.c", "a.b.c", ".c", "c.c"], ["", "c.a", "c."]),
    ("a.#.c", ["a.c", "a.b.c", "a.b.b.c", "a.c.c", "a..c"], ["a", "c", "a.b", "a.c.b"]),
    ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c"]),
    ("#.b.#", ["b", "a.b", "b.c", "a.b.c", "b.b"], ["", "a", "bb", "a.c"]),
    ("*.#", ["a", "a.b", ".", "a.b.c"], [""]),
    ("#.*", ["a", "a.b", ".", "a.b.c"], [""]),
    ("*.#.*", ["a.b", ".", "a.b.c"], ["", "a"]),
    ("#.#", ["", "a", "a.b"], []),
    ("#.#.a.#.#", ["a", "b.a", "a.b"], ["", "b"]),
    ("a.#.#.*", ["a.b", "a.b.c"], ["a", "b.a"]),
    ("#.a.*.b", ["a.x.b", "a.a.x.b", "a.a.b.a.x.b"], ["a.b", "a.x.y.b"]),
    ("", [""], ["a", "."]),
    (".", ["."], ["", "a", ".."]),
    ("..", [".."], ["", ".", "..."]),
    (".*", [".a", "."], ["a", "a.b", ".."]),
    ("a.", ["a."], ["a", "a.b"]),
    ("*.*", [".", "a.b"], ["a", "a.b.c"]),
    # Beside other characters they are characters.
    ("a*", ["a*"], ["a", "ab", "a.b"]),
    ("a#", ["a#"], ["a", "ab"]),
    ("**", ["**"], ["a", "a.b"]),
    ("##", ["##"], ["", "a"]),
    ("**.#", ["**", "**.a"], ["a", "a.b"]),
    ("Küche.*", ["Küche.Licht"], ["Kuche.Licht"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), EXAMPLES)
def test_patterns_and_keys(pattern: str, matching: list[str], others: list[str]) -> None:
    topic = TopicPattern(pattern)
    assert [key for key in matching if not topic.matches(key)] == []
    assert [key for key in others if topic.matches(key)] == []
    assert repr(topic) == f"TopicPattern({pattern!r})"


def model(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """The rules, word by word; exponential at worst."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return model(pattern[1:], key) or (bool(key) and model(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and model(pattern[1:], key[1:])


def words(text: str) -> list[str]:
    return text.split(".") if text else []


texts = st.text(alphabet="ab.*#", max_size=16) | st.lists(
    st.sampled_from(["a", "b", "", "*", "#", "ab"]), max_size=9
).map(".".join)


@given(texts, texts)
@example("#.#.#", "")
@example("#", "#")
def test_it_says_what_the_rules_say(pattern: str, key: str) -> None:
    assert TopicPattern(pattern).matches(key) == model(words(pattern), words(key))


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=20), st.data())
def test_a_key_matches_each_pattern_that_is_made_of_it(key: list[str], data: st.DataObject) -> None:
    choices = [data.draw(st.sampled_from([[word], ["*"], ["#"], ["#", word]])) for word in key]
    pattern = ".".join(word for choice in choices for word in choice)
    assert TopicPattern(pattern).matches(".".join(key))


@pytest.mark.parametrize(
    "pattern", ["#.a." * 63 + "b", "*.#." * 63 + "b", "#." * 127 + "b", "#.a.*." * 42 + "b", "#"]
)
def test_no_pattern_costs_much(pattern: str) -> None:
    """With these, a match that goes back and tries again takes longer than the universe is old."""
    assert len(pattern) <= 255
    topic, key = TopicPattern(pattern), "a." * 127 + "a"
    began_s = time.process_time()
    for _ in range(100):
        assert topic.matches(key) == (pattern == "#")
    assert time.process_time() - began_s < scaled(0.5)
