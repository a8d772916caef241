"""Bodies become bytes and come back: every payload, and by whatever serializer."""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import fractions
import json
import math
import pickle
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import (
    MalformedKey,
    MessageRejected,
    OutOfResources,
    PayloadRefused,
    RejectReason,
)
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, SNOOP_SPY, SNOOP_TRACE, Kind, shape
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.record import unpack
from miros_rabbitmq.wording import a_value_of
from tests.wire import Peer

KEY = base64.urlsafe_b64encode(bytes(range(32)))
OTHER_KEY = base64.urlsafe_b64encode(bytes(32))


class Reading(NamedTuple):
    """A class of the user's program."""

    sensor: str
    celsius: float


class Unregistered:
    """Another class, which nobody registers."""


def codec(**options: Any) -> Codec:
    return Codec(KEY, **options)


def plain_through(body: Any, one: Codec) -> bytes:
    """Send a body, and return what comes out of the record at the other side."""
    opened = Opener(one, MESH, most_records=1).open(Peer(one, MESH).message(body), "a.key")
    return unpack(opened.contents[0]).body


def body_through(body: Any, one: Codec) -> Any:
    return one.deserialize(plain_through(body, one))


def payload_through(payload: Any, **options: Any) -> Any:
    return body_through(("SIGNAL", payload), codec(**options))[1]


def reason_for(plain: bytes, one: Codec) -> RejectReason:
    with pytest.raises(MessageRejected) as caught:
        one.deserialize(plain)
    return caught.value.reason


def anatomy(value: Any) -> Any:
    """Return everything that must come back: types, order, bounds and values, even those of NaN."""
    kind = type(value).__name__
    if isinstance(value, dict):  # also OrderedDict and Counter
        return kind, [(anatomy(key), anatomy(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [anatomy(item) for item in value]
    if isinstance(value, collections.deque):
        return kind, value.maxlen, [anatomy(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted((anatomy(item) for item in value), key=repr)
    return kind, repr(value)


FIXED_ZONES = st.timedeltas(
    min_value=datetime.timedelta(hours=-23), max_value=datetime.timedelta(hours=23)
).map(datetime.timezone)

HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**70),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=8),
    st.text(alphabet="äß→😀\x00\n\u202e", max_size=4),
    st.binary(max_size=8),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.fractions(),
    st.uuids(),
    st.dates(),
    # Pickle protocol 3 drops the fold; `test_pickling` shows that it travels all the same.
    st.datetimes(timezones=st.none() | FIXED_ZONES).map(lambda moment: moment.replace(fold=0)),
    st.times(timezones=st.none() | FIXED_ZONES).map(lambda moment: moment.replace(fold=0)),
    st.timedeltas(),
    FIXED_ZONES,
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9)),
)

PAYLOADS = st.recursive(
    HASHABLE | st.builds(bytearray, st.binary(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3).map(collections.OrderedDict),
        st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE | st.frozensets(HASHABLE, max_size=2), max_size=3),
        st.lists(HASHABLE, max_size=4).map(collections.Counter),
        st.builds(collections.deque, st.lists(inner, max_size=3), st.none() | st.integers(0, 5)),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=120)
@given(PAYLOADS)
def test_every_payload_comes_back_equal_and_of_the_same_type(payload: Any) -> None:
    assert anatomy(payload_through(payload)) == anatomy(payload)


@pytest.mark.parametrize(
    "payload",
    [
        (1, (2, [3, (4,)])),
        {1: "int", "1": "text", (1, 2): "tuple", None: "none", 1.5: "float"},
        [True, 1, False, 0, 1.0],
        2**4000,
        -(2**64),
        -0.0,
        math.inf,
        -math.inf,
        "Grüße 👋🏽 \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "",
        b"",
        b"\x00\xff\n",
        bytearray(b"\n\n"),
        decimal.Decimal("1.10"),
        decimal.Decimal("-Infinity"),
        fractions.Fraction(-1, 3),
        uuid.UUID(int=7),
        datetime.datetime(2026, 11, 22, 8, 2, 36, 593144, datetime.timezone.utc),
        datetime.datetime.max.replace(tzinfo=datetime.timezone.utc),
        datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=5.5), "IST")),
        collections.deque([1, 2, 3], maxlen=3),
        collections.Counter("mississippi"),
        collections.OrderedDict([("z", 1), ("a", 2)]),
        {"set": {1, 2}, "frozen": frozenset({frozenset({1})})},
        range(10, 0, -3),
        3 - 4j,
        None,
    ],
    ids=repr,
)
def test_the_payloads_that_other_formats_lose_come_back(payload: Any) -> None:
    restored = payload_through(payload)
    assert anatomy(restored) == anatomy(payload)
    assert restored == payload


def test_nan_comes_back_as_nan() -> None:
    assert math.isnan(payload_through(math.nan))
    assert payload_through(decimal.Decimal("NaN")).is_nan()


def test_nothing_of_an_event_is_in_clear() -> None:
    seen = Peer(codec(), MESH, "the-sender").message(("THE_SIGNAL", "the payload"))
    for secret in (b"the-sender", b"THE_SIGNAL", b"the payload", MESH.encode(), b"a.key"):
        assert secret not in seen


# Bytes that no serializer of ours has made, by somebody who has the key.


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_in_place_of_a_pickle_are_restored_or_rejected(plain: bytes) -> None:
    try:
        codec().deserialize(plain)
    except MessageRejected as error:
        if error.reason is not RejectReason.NOT_DESERIALIZABLE:
            raise


def test_an_object_of_an_unregistered_class_is_rejected() -> None:
    with pytest.raises(MessageRejected, match="Unregistered is not an allowed class") as caught:
        codec().deserialize(pickle.dumps(("SIGNAL", Unregistered()), 3))
    assert caught.value.reason is RejectReason.NOT_DESERIALIZABLE


def test_a_rejection_quotes_no_plain_text() -> None:
    one = codec(serializer=pickle.dumps, deserializer=int)
    with pytest.raises(MessageRejected) as caught:
        one.deserialize(b"the-plain-text")
    assert "the-plain-text" not in str(caught.value)
    assert "ValueError" in str(caught.value)


# What may travel on which network.


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        (MESH, Kind.EVENT),
        (SNOOP_TRACE, Kind.LINE),
        (SNOOP_SPY, Kind.LINE),
        ("exchange.of.the.user", Kind.VALUE),
        ("", Kind.VALUE),
    ],
)
def test_each_network_has_a_kind(network: str, kind: Kind) -> None:
    assert Kind.on(network) is kind


EVENTS = [("SIGNAL", None), ["SIGNAL", None], ("S" * 255, ("any", "thing"))]

NO_EVENTS: dict[str, Any] = {
    "nothing": None,
    "text": "SI",
    "bytes": b"SI",
    "mapping": {"SIGNAL": 1, "other": 2},
    "set": {"SIGNAL", 1},
    "named tuple": Reading("attic", 21.5),
    "too short": ("SIGNAL",),
    "too long": ("SIGNAL", None, None),
    "empty": (),
    "signal as number": (12, None),
    "signal as bytes": (b"SIGNAL", None),
    "signal missing": (None, None),
    "signal empty": ("", None),
    "signal too long": ("S" * 256, None),
}


@pytest.mark.parametrize("body", EVENTS, ids=lambda body: type(body).__name__)
def test_an_event_has_a_name_and_a_payload(body: Any) -> None:
    assert Kind.EVENT.fits(body)
    assert not Kind.LINE.fits(body)
    assert Kind.VALUE.fits(body)


@pytest.mark.parametrize("body", NO_EVENTS.values(), ids=NO_EVENTS)
def test_anything_else_is_no_event_but_a_value(body: Any) -> None:
    assert not Kind.EVENT.fits(body)
    assert Kind.VALUE.fits(body)


@pytest.mark.parametrize("body", [None, b"line", ("line",), ["line"], 7])
def test_only_a_text_is_a_line(body: Any) -> None:
    assert not Kind.LINE.fits(body)
    assert Kind.LINE.fits("line")


def test_the_shape_of_a_body_shows_no_value() -> None:
    assert shape(("SECRET", 7)) == "a tuple of str, int"
    assert shape("SECRET") == "a str"


# Payloads that the sender may not send.


def test_a_refused_payload_is_named_with_every_remedy() -> None:
    with pytest.raises(PayloadRefused) as caught:
        codec().serialize(("SIGNAL", [Unregistered()]))
    text = str(caught.value)
    assert f"{Unregistered.__module__}.Unregistered" in text
    assert "allowed_classes=[Unregistered]" in text
    assert "a serializer and a deserializer" in text
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("payload", [lambda: None, print, iter([]), json, object()], ids=repr)
def test_a_payload_that_cannot_be_pickled_is_refused_at_the_sender(payload: Any) -> None:
    with pytest.raises(PayloadRefused, match="cannot be serialized"):
        codec().serialize(("SIGNAL", payload))


def test_a_payload_too_deep_to_be_pickled_is_refused_at_the_sender() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PayloadRefused, match="nested too deep"):
        codec().serialize(("SIGNAL", deep))
    while deep:  # taken apart here, because its destructor would recurse just as deep
        deep = deep[0]


def test_a_registered_class_travels_between_those_who_registered_it() -> None:
    reading = Reading("attic", 21.5)
    knowing = codec(allowed_classes=[Reading])
    plain = plain_through(("SIGNAL", reading), knowing)
    restored = knowing.deserialize(plain)[1]
    assert type(restored) is Reading
    assert restored == reading
    assert reason_for(plain, codec()) is RejectReason.NOT_DESERIALIZABLE


# The user's own serializers.


def json_codec(**options: Any) -> Codec:
    return codec(
        serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads, **options
    )


def test_json_may_take_the_place_of_pickle() -> None:
    """And it sees the body alone: name, numbers and times have a layout of their own."""
    body = ("SIGNAL", {"a": [1, None]})
    assert json.loads(plain_through(body, json_codec())) == ["SIGNAL", {"a": [1, None]}]
    assert body_through(body, json_codec()) == ["SIGNAL", {"a": [1, None]}]


def test_a_serializer_may_make_text() -> None:
    one = codec(serializer=json.dumps, deserializer=json.loads)
    assert body_through(("SIGNAL", "ä"), one) == ["SIGNAL", "ä"]


def test_a_serializer_may_make_nothing() -> None:
    one = codec(serializer=lambda _: b"", deserializer=lambda plain: ("EMPTY", plain))
    assert body_through(("SIGNAL", None), one) == ("EMPTY", b"")


def test_an_exception_of_a_serializer_is_a_refusal() -> None:
    with pytest.raises(PayloadRefused, match="not JSON serializable") as caught:
        json_codec().serialize(("SIGNAL", {1}))
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_exception_of_a_deserializer_is_a_rejection() -> None:
    assert reason_for(b"{", json_codec()) is RejectReason.NOT_DESERIALIZABLE


@pytest.mark.parametrize("made", [None, 7, bytearray(b"x"), memoryview(b"x"), ["x"]], ids=repr)
def test_a_serializer_that_returns_something_other_than_bytes_is_refused(made: Any) -> None:
    one = codec(serializer=lambda _: made, deserializer=pickle.loads)
    with pytest.raises(PayloadRefused, match=f"made {a_value_of(made)}, not bytes"):
        one.serialize(("SIGNAL", None))


def test_text_that_is_not_unicode_is_a_refusal() -> None:
    one = codec(serializer=lambda _: "\ud800", deserializer=json.loads)
    with pytest.raises(PayloadRefused):
        one.serialize(("SIGNAL", None))


# Keys.


@pytest.mark.parametrize("keys", [KEY, KEY.decode(), [KEY], (KEY.decode(), OTHER_KEY)])
def test_a_key_alone_is_as_good_as_a_list_of_them(keys: Any) -> None:
    message = Peer(Codec(keys), MESH).message(("SIGNAL", None))
    assert Opener(codec(), MESH, most_records=1).open(message, "a.key")


@pytest.mark.parametrize("keys", ["abc", b"", [], [KEY, "abc"], None, 5, [None]])
def test_a_malformed_key_is_refused_with_the_name_of_its_argument_and_the_old_stay(
    keys: Any,
) -> None:
    with pytest.raises(MalformedKey, match="keys is"):
        Codec(keys)
    one = codec()
    before = one.keyring
    with pytest.raises(MalformedKey, match="keys is"):
        one.change_keys(keys)
    assert one.keyring is before


def test_without_memory_an_event_is_not_to_blame_and_one_that_came_is_rejected() -> None:
    def fail(_: Any) -> Any:
        raise MemoryError

    one = codec(serializer=fail, deserializer=fail)
    with pytest.raises(OutOfResources, match="memory"):
        one.serialize(("A", None))
    with pytest.raises(MessageRejected, match="no memory"):
        one.deserialize(b"")
