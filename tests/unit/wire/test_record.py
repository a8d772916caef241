"""The layout of what a record encrypts: exact, padded, and read with one kind of error."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import MessageRejected, RejectReason
from miros_rabbitmq.foreign import on_one_line
from miros_rabbitmq.wire.record import (
    MOST_SEQUENCE,
    Content,
    name_bytes,
    pack,
    padded_size,
    unpack,
)

NAMES = st.text(min_size=1, max_size=255)
CONTENTS = st.builds(
    Content,
    st.integers(0, 255),
    NAMES,
    st.integers(0, 2**64 - 1),
    st.integers(1, MOST_SEQUENCE),
    st.binary(max_size=100),
)
GOOD = Content(1, "sender", 1_800_000_000_000, 5, b"body")


def packed(content: Content) -> bytes:
    kind, sender, sent_ms, sequence, body = content
    return pack(kind, name_bytes(sender), sent_ms, sequence, body)


def content_of(plain: bytes) -> Content | None:
    """What is in it; `None` if it is malformed."""
    try:
        return unpack(plain)
    except MessageRejected as error:
        if error.reason is RejectReason.MALFORMED:
            return None
        raise


def reason_for(plain: bytes) -> RejectReason:
    with pytest.raises(MessageRejected) as caught:
        unpack(plain)
    return caught.value.reason


def test_the_bytes_of_a_record_are_these_as_other_versions_read_them() -> None:
    fields = (
        b"\x01\x00\x00\x01\xa3\x18\x5c\x50\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x06senderbody"
    )
    assert packed(GOOD) == fields + b"\x03" * 3


@given(CONTENTS)
@example(GOOD._replace(sender="\x00"))
@example(GOOD._replace(sender="👋" * 255, body=b""))
def test_a_content_is_read_as_it_was_written(content: Content) -> None:
    plain = packed(content)
    # The name goes into logs and onto terminals.
    assert unpack(plain) == content._replace(sender=on_one_line(content.sender))
    assert len(plain) == padded_size(name_bytes(content.sender), content.body)


def test_a_name_that_no_receiver_could_print_travels_with_question_marks() -> None:
    for name in ("\ud800", "\ud83d\udc4b", "robot-\udcff"):  # two halves are not the whole
        sent = unpack(packed(GOOD._replace(sender=name))).sender
        assert sent == name.encode(errors="replace").decode()
        assert sent.isprintable()


def test_a_name_that_holds_half_of_a_surrogate_pair_is_malformed() -> None:
    for name in ("\ud800", "\ud83d\udc4b", "robot-\udcff"):
        made_up = pack(GOOD.kind, name.encode("utf-8", "surrogatepass"), 0, 1, b"")
        assert reason_for(made_up) is RejectReason.MALFORMED


@given(CONTENTS)
def test_the_padding_hides_up_to_16_bytes_and_there_is_always_some(content: Content) -> None:
    plain = packed(content)
    added = len(plain) - 19 - len(name_bytes(content.sender)) - len(content.body)
    assert len(plain) % 16 == 0
    assert 1 <= added <= 16
    assert plain[-added:] == bytes((added,)) * added


@given(CONTENTS, st.data())
def test_whatever_byte_is_changed_it_is_malformed_or_says_something_else(
    content: Content, data: st.DataObject
) -> None:
    plain = bytearray(packed(content))
    at = data.draw(st.integers(0, len(plain) - 1), label="byte")
    plain[at] ^= data.draw(st.integers(1, 255), label="change")
    assert content_of(bytes(plain)) != content


@given(st.binary(max_size=100))
@example(b"")
@example(b"\x01")
@example(b"\x10" * 16)
@example(b"\xff" * 32)
def test_any_bytes_are_read_or_malformed(plain: bytes) -> None:
    content = content_of(plain)
    assert content is None or 0 < len(content.sender) <= 255
    assert content is None or 0 < content.sequence <= MOST_SEQUENCE


def test_a_truncated_content_is_malformed() -> None:
    plain = packed(GOOD._replace(body=b"a body of zeros" + bytes(40)))
    for end in range(len(plain)):
        assert reason_for(plain[:end]) is RejectReason.MALFORMED


@pytest.mark.parametrize(
    "bad",
    [
        GOOD._replace(sender=""),
        GOOD._replace(sender="s" * 256),
        GOOD._replace(sender="👋" * 256),
        GOOD._replace(sequence=0),
        GOOD._replace(sequence=MOST_SEQUENCE + 1),
        GOOD._replace(sequence=2**64 - 1),
    ],
    ids=lambda content: f"{content.sender[:3]} {len(content.sender)} {content.sequence}",
)
def test_a_name_or_number_that_no_honest_sender_has_is_malformed(bad: Content) -> None:
    assert reason_for(packed(bad)) is RejectReason.MALFORMED


@pytest.mark.parametrize("name", [b"\xff", b"\xc3", b"a\x80", b"\xf8\x88\x80\x80\x80"])
def test_a_name_that_is_no_text_is_malformed(name: bytes) -> None:
    assert reason_for(pack(1, name, 0, 1, b"")) is RejectReason.MALFORMED


def test_a_name_that_reaches_into_the_padding_is_malformed() -> None:
    plain = bytearray(packed(GOOD))
    longest = len(b"sender" + b"body")
    plain[18] = longest
    assert unpack(bytes(plain)).sender == "senderbody"
    plain[18] = longest + 1
    assert reason_for(bytes(plain)) is RejectReason.MALFORMED


@pytest.mark.parametrize("padding", [b"\0", b"\x02", b"\x01\x02", b"\x11" * 17, b"\xff" * 13])
def test_a_padding_that_pack_does_not_write_is_malformed(padding: bytes) -> None:
    plain = packed(GOOD)
    assert reason_for(plain[:-3] + padding) is RejectReason.MALFORMED
