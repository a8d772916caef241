"""The restricted pickle: what its writer and its reader accept, and what they refuse."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import datetime
import decimal
import enum
import fractions
import functools
import operator
import os
import pathlib
import pickle
import re
import sys
import types
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miros_rabbitmq.exceptions import SettingsError
from miros_rabbitmq.wire import pickle_check, pickling, unpickler
from miros_rabbitmq.wire.pickle_check import Findings, check_opcodes
from miros_rabbitmq.wire.pickle_cost import MAX_NUMBER_KEYS
from miros_rabbitmq.wire.pickling import (
    HARMLESS,
    PROTOCOL,
    ClassRefused,
    OpcodeRefused,
    RestrictedPickle,
)

EXTENSION_CODE = 0xF1


class Own:
    """A class that nobody has allowed."""

    class Nested:
        """A class inside another."""

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self)

        __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return 7

    def method(self) -> None:
        """A bound method is refused, too."""


class OwnZone(datetime.tzinfo):
    """A time zone of the user's program."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return 8

    def utcoffset(self, _: Any) -> datetime.timedelta:
        return datetime.timedelta(hours=1)

    def dst(self, _: Any) -> None:
        """Return None: it has no summer time."""

    def tzname(self, _: Any) -> str:
        return "own"


class OwnText(str):
    """A subclass of a plain type."""


class OwnSet(set[int]):
    """A subclass of an allowed class."""


class Point(NamedTuple):
    """A named tuple: a class, not plain data."""

    x: int
    y: int


class Colour(enum.Enum):
    """An enumeration: a class, too."""

    RED = 1


class Level(enum.IntEnum):
    """A subclass of int whose members equal their numbers."""

    LOW = 1


class Shell:
    """Pickles as a call of a function, like the object of an attacker."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def own_function() -> None:
    """A function that a pickle could name."""


REFUSED: dict[str, Any] = {
    "own object": Own(),
    "own class": Own,
    "subclass of str": OwnText("text"),
    "subclass of set": OwnSet({1}),
    "subclass of an allowed class": collections.defaultdict(int),
    "named tuple": Point(1, 2),
    "enumeration": Colour.RED,
    "function": own_function,
    "built-in function": len,
    "bound method": Own().method,
    "method of a list": [].append,
    "partial": functools.partial(own_function),
    "getter": operator.itemgetter(1),
    "plain type as a value": int,
    "path": pathlib.PurePosixPath("/etc/passwd"),
    "exception": ValueError("text"),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "call of os.system": Shell(os.system, "true"),
    "call of eval": Shell(eval, "1"),
    "call of getattr": Shell(getattr, "text", "upper"),
}


@pytest.fixture
def extension() -> Iterator[bytes]:
    """A pickle that names ``os.system`` by the number of a registered extension."""
    # The module that defines it differs between operating systems.
    module = os.system.__module__
    copyreg.add_extension(module, "system", EXTENSION_CODE)
    try:
        yield b"\x80\x02\x82" + bytes([EXTENSION_CODE]) + b"."
    finally:
        copyreg.remove_extension(module, "system", EXTENSION_CODE)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_the_writer_refuses_values_that_are_not_plain_data(value: Any) -> None:
    for hidden in (value, [value], {"key": (value,)}, collections.deque([value])):
        with pytest.raises(ClassRefused, match="a payload may not contain"):
            RestrictedPickle().dumps(hidden)


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_the_reader_refuses_it_in_every_protocol(value: Any) -> None:
    pickles = dict(_pickles_of(value))
    assert pickles
    for protocol, pickled in pickles.items():
        with pytest.raises(pickle.UnpicklingError) as caught:
            RestrictedPickle().loads(pickled)
        if protocol == PROTOCOL:
            assert re.search(
                "not an allowed class|no classes are registered|as a value", str(caught.value)
            )


def _pickles_of(value: Any) -> Iterator[tuple[int, bytes]]:
    """Yield its pickle in each protocol that can write it; the oldest lack slots and methods."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with contextlib.suppress(Exception):
            yield protocol, pickle.dumps(value, protocol)


def test_a_function_that_cannot_be_found_again_is_refused_as_well() -> None:
    for value in (
        lambda: None,
        own_function,
        test_a_subclass_posing_as_an_allowed_class_is_refused,
    ):
        with pytest.raises(ClassRefused, match="function"):
            RestrictedPickle().dumps(value)


def test_values_that_cannot_be_pickled_at_all_are_refused() -> None:
    for value in ((number for number in range(3)), sys, open, memoryview(b""), object()):
        with pytest.raises(pickle.PicklingError):
            RestrictedPickle().dumps(value)


def test_a_subclass_posing_as_an_allowed_class_is_refused() -> None:
    impostor = type("Decimal", (decimal.Decimal,), {"__module__": "decimal"})
    with pytest.raises(ClassRefused, match=r"decimal\.Decimal"):
        RestrictedPickle().dumps(impostor("1"))


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="the classic"),
        pytest.param(b"\x80\x03cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", id="eval"),
        pytest.param(b"(S'true'\nios\nsystem\n.", id="the opcode INST"),
        pytest.param(b"\x80\x03cbuiltins\ngetattr\n.", id="a function alone"),
        pytest.param(b"\x80\x03ccopyreg\n_reconstructor\n.", id="what old protocols use"),
        pytest.param(b"\x80\x04\x8c\x08datetime\x8c\x10datetime.__new__\x93.", id="dotted name"),
        pytest.param(b"\x80\x04\x8c\x08datetime\x8c\x0cdatetime.now\x93.", id="dotted method"),
        pytest.param(b"\x80\x04\x8c\x07decimal\x8c\x0bdecimal.sys\x93.", id="module in a module"),
        pytest.param(b"\x80\x03cdecimal\nlocalcontext\n.", id="a neighbour of an allowed class"),
        pytest.param(b"\x80\x03cuuid\nos\n.", id="a module that an allowed module imports"),
        pytest.param(b"\x80\x03c__main__\nset\n.", id="a known name of another module"),
    ],
)
def test_the_reader_finds_nothing_beyond_its_list(pickled: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        RestrictedPickle().loads(pickled)


def test_persistent_ids_are_refused() -> None:
    for pickled in (b"\x80\x03Psecret\n.", b"\x80\x03X\x01\x00\x00\x00sQ."):
        with pytest.raises(pickle.UnpicklingError):
            RestrictedPickle().loads(pickled)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_an_extension_code_does_not_bypass_the_list(extension: bytes, width: int) -> None:
    """Not even once the program has used it, after which pickle takes it from a cache."""
    for cached in (False, True):
        assert cached is False or pickle.loads(extension) is os.system
        opcode = {1: b"\x82", 2: b"\x83", 4: b"\x84"}[width]
        code = EXTENSION_CODE.to_bytes(width, "little")
        for head in (b"\x80\x02", b"\x80\x03"):
            with pytest.raises(OpcodeRefused):
                RestrictedPickle().loads(head + opcode + code + b".")


def test_loading_imports_nothing() -> None:
    for module in ("this", "antigravity", "xml.dom.pulldom", "no_such_module"):
        before = set(sys.modules)
        assert module not in before
        for pickled in (
            b"\x80\x03c" + module.encode() + b"\nname\n.",
            b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c\x01x\x93.",
        ):
            with pytest.raises(pickle.UnpicklingError):
                RestrictedPickle().loads(pickled)
        assert set(sys.modules) == before


@pytest.mark.parametrize(
    "arguments", [b"J\x00\x00\x00\x40\x85", b"X\x01\x00\x00\x00a\x85", b"]\x85", b"C\x00N\x86"]
)
def test_a_bytearray_is_rebuilt_from_bytes_alone(arguments: bytes) -> None:
    with pytest.raises(ClassRefused, match="may not be rebuilt from these arguments"):
        RestrictedPickle().loads(b"\x80\x03cbuiltins\nbytearray\n" + arguments + b"R.")


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n", b"x" * 5000])
def test_bytearrays_of_every_length_come_back(content: bytes) -> None:
    restored = RestrictedPickle().loads(RestrictedPickle().dumps(bytearray(content)))
    assert type(restored) is bytearray
    assert restored == content


@pytest.mark.parametrize(
    "name",
    [b"builtins\nset", b"builtins\nfrozenset", b"collections\ndeque", b"collections\nCounter"],
)
def test_a_container_is_not_filled_from_a_range(name: bytes) -> None:
    filled = b"\x80\x03c" + name + b"\ncbuiltins\nrange\nJ\x10\x27\x00\x00\x85R\x85R."
    with pytest.raises(ClassRefused):
        RestrictedPickle().loads(filled)


def test_a_fraction_is_not_rebuilt_from_a_power() -> None:
    power = b"\x80\x03cfractions\nFraction\nX\x04\x00\x00\x001e99\x85R."
    with pytest.raises(ClassRefused):
        RestrictedPickle().loads(power)


@pytest.mark.parametrize(
    "name",
    [b"collections\ndeque", b"fractions\nFraction", b"uuid\nUUID", b"builtins\nbytearray"],
)
def test_a_pickle_does_not_change_the_allowed_classes(name: bytes) -> None:
    restricted = RestrictedPickle()
    change = b"\x80\x03c" + name + b"\nN}X\x07\x00\x00\x00taintedK\x01s\x86b."
    target = restricted.loads(b"\x80\x03c" + name + b"\n.")
    try:
        with pytest.raises(pickle.UnpicklingError):
            restricted.loads(change)
        assert not hasattr(target, "tainted")
    finally:
        if hasattr(target, "tainted"):
            del target.tainted


def test_the_refusal_names_the_class_and_every_remedy() -> None:
    with pytest.raises(ClassRefused) as caught:
        RestrictedPickle().dumps({"where": [Own()]})
    text = str(caught.value)
    assert f"{Own.__module__}.Own" in text
    assert "allowed_classes=[Own]" in text
    assert "serializer" in text
    assert "deserializer" in text


@pytest.mark.parametrize("value", [Own(), OwnText("text"), OwnSet({1}), Point(1, 2), Colour.RED])
def test_a_registered_class_travels(value: Any) -> None:
    restricted = RestrictedPickle([type(value)])
    restored = restricted.loads(restricted.dumps([value]))
    assert restored == [value]
    assert type(restored[0]) is type(value)


class Access(enum.Flag):
    """An enumeration whose members can be combined."""

    READ = 1
    WRITE = 2
    RUN = 4


class ByName(enum.Enum):
    """An enumeration that says itself how it is pickled."""

    ONE = 1

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return getattr, (type(self), self.name)


def _by_getattr(member: Any, _protocol: int) -> Any:
    """Pickle a member as the enumerations of Python 3.11.2 do."""
    return getattr, (type(member), member.name)


@pytest.mark.parametrize("has_older_enum", [False, True])
@pytest.mark.parametrize("value", [Colour.RED, Level.LOW, Access.RUN, Access.READ | Access.RUN])
def test_enumerations_travel_with_every_python(
    value: Any, has_older_enum: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_older_enum:
        monkeypatch.setattr(enum.Enum, "__reduce_ex__", _by_getattr)
    restricted = RestrictedPickle([type(value)])
    written = restricted.dumps([value])
    assert restricted.loads(written) == [value]
    assert type(restricted.loads(written)[0]) is type(value)
    assert b"getattr" not in written


def test_an_enumeration_that_is_not_allowed_is_advised_to_be_allowed_with_every_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enum.Enum, "__reduce_ex__", _by_getattr)
    with pytest.raises(ClassRefused, match=r"allowed_classes=\[Colour\]"):
        RestrictedPickle().dumps(Colour.RED)


def test_an_enumeration_with_a_form_of_its_own_keeps_it() -> None:
    with pytest.raises(ClassRefused, match="a call of the function getattr"):
        RestrictedPickle([ByName]).dumps(ByName.ONE)


def test_what_a_registered_object_holds_is_checked_as_well() -> None:
    holder = Own()
    holder.part = Colour.RED  # type: ignore[attr-defined]
    with pytest.raises(ClassRefused, match="Colour"):
        RestrictedPickle([Own]).dumps(holder)
    both = RestrictedPickle([Own, Colour])
    assert both.loads(both.dumps(holder)) == holder


def test_a_class_that_the_other_side_could_not_find_is_not_registered() -> None:
    class Local:
        pass

    for cls in (Own.Nested, Local):
        with pytest.raises(SettingsError, match="at the top level of its module"):
            RestrictedPickle([cls])


@pytest.mark.parametrize("cls", HARMLESS)
def test_a_class_as_a_value_is_refused(cls: type) -> None:
    for value in (cls, [cls], {"a": (cls,)}, {cls: 1}, [{1}, cls], [cls, {1}], (cls, "h" * 99)):
        with pytest.raises(ClassRefused, match=f"{cls.__module__}.{cls.__qualname__} itself"):
            RestrictedPickle().dumps(value)


@pytest.mark.parametrize("cls", HARMLESS)
def test_a_class_as_a_value_gives_no_access_to_the_class(cls: type) -> None:
    restricted = RestrictedPickle()
    with pytest.raises(OpcodeRefused, match="itself"):
        restricted.loads(pickle.dumps([cls] + [""] * 2000, PROTOCOL))
    if cls is collections.Counter:  # even a small pickle of one is walked
        with pytest.raises(OpcodeRefused, match="itself"):
            restricted.loads(pickle.dumps(cls, PROTOCOL))
        return
    restored = restricted.loads(pickle.dumps(cls, PROTOCOL))
    assert not isinstance(restored, type)
    with pytest.raises(ClassRefused):
        restored.tainted = True


def test_many_objects_of_one_class_are_not_taken_for_a_class_as_a_value() -> None:
    values = [datetime.date(2026, 1, day) for day in range(1, 29)]
    for value in (values[:1], values[:2], values, [*values, "h" * 99], [values, values]):
        assert RestrictedPickle().loads(RestrictedPickle().dumps(value)) == value


def test_a_registered_class_as_a_value_travels() -> None:
    restricted = RestrictedPickle([Own])
    for value in (Own, [Own], [Own(), Own, Own()], [Own] * 1000):
        assert restricted.loads(restricted.dumps(value)) == value
    with pytest.raises(ClassRefused, match=r"decimal\.Decimal itself"):
        restricted.dumps([Own, decimal.Decimal])


def test_a_harmless_class_that_is_registered_keeps_its_guard() -> None:
    restricted = RestrictedPickle([bytearray, Own])
    assert restricted.loads(restricted.dumps(bytearray(b"text"))) == b"text"
    with pytest.raises(ClassRefused, match="may not be rebuilt from these arguments"):
        restricted.loads(b"\x80\x03cbuiltins\nbytearray\nJ\0\0\0\x40\x85R.")
    with pytest.raises(pickle.UnpicklingError):
        RestrictedPickle([bytearray]).loads(b"\x80\x03cbuiltins\nbytearray\n}b.")


@settings(deadline=None, max_examples=200)
@given(
    st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc))
    | st.times(timezones=st.none() | st.just(datetime.timezone.utc)),
    st.integers(0, 1),
)
def test_the_fold_of_a_time_travels(moment: datetime.datetime | datetime.time, fold: int) -> None:
    folded = moment.replace(fold=fold)
    for restored in RestrictedPickle().loads(RestrictedPickle().dumps([folded, folded])):
        assert restored == folded
        assert type(restored) is type(folded)
        assert restored.fold == fold
        assert restored.tzinfo == folded.tzinfo


def test_two_pickles_do_not_share_their_lists() -> None:
    generous, strict = RestrictedPickle([Own]), RestrictedPickle()
    pickled = generous.dumps(Own())
    with pytest.raises(ClassRefused, match="Own is not an allowed class"):
        strict.loads(pickled)
    with pytest.raises(ClassRefused):
        strict.dumps(Own())
    assert generous.loads(pickled) == Own()


def test_every_python_3_can_read_what_is_written() -> None:
    assert PROTOCOL == 3
    assert RestrictedPickle().dumps((1, "a"))[:2] == b"\x80\x03"


def test_a_value_that_contains_itself_comes_back_containing_itself() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    restored = RestrictedPickle().loads(RestrictedPickle().dumps(ring))
    assert restored[0] == 1
    assert restored[1] is restored


def test_a_copyreg_function_of_the_program_does_not_get_past_the_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, decimal.Decimal, lambda _: (os.system, ("true",)))
    with pytest.raises(ClassRefused, match="a function, system"):
        RestrictedPickle().dumps(decimal.Decimal(1))


def _nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.lists(inner, max_size=3).map(collections.deque),
            st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3),
        ),
        max_leaves=6,
    )


ALLOWED_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(bytearray, st.binary(max_size=5)),
    st.uuids(),
    st.fractions(),
    st.timedeltas(),
    st.sampled_from(
        [set(), frozenset({1}), range(3), 1j, decimal.Decimal("1.0"), datetime.timezone.utc]
    ),
    st.sampled_from([collections.OrderedDict(a=1), collections.Counter("aab"), uuid.UUID(int=1)]),
)

REFUSED_LEAVES = st.sampled_from(
    [
        value
        for name, value in REFUSED.items()
        if "call" not in name and value is not ... and value is not NotImplemented
    ]
)


@settings(deadline=None, max_examples=150)
@given(_nested(ALLOWED_LEAVES | REFUSED_LEAVES))
def test_the_writer_refuses_exactly_what_the_reader_would(value: Any) -> None:
    restricted = RestrictedPickle()
    anything = pickle.dumps(value, PROTOCOL)
    try:
        written = restricted.dumps(value)
    except ClassRefused:
        # Python writes a UUID with a state; the check refuses that opcode before any look-up.
        with pytest.raises(pickle.UnpicklingError):
            restricted.loads(anything)
    else:
        assert restricted.loads(written) == value


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_no_bytes_make_the_reader_import_anything(garbage: bytes) -> None:
    before = set(sys.modules)
    with contextlib.suppress(Exception):
        RestrictedPickle().loads(b"\x80\x03" + garbage)
    assert set(sys.modules) == before


# The short way, for plain data, and the long way, for everything else.


class Plainly:
    """Reduces to plain data, or to something that looks like it."""

    def __init__(self, reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        if isinstance(self.reduced, Exception):
            raise self.reduced
        return self.reduced


class OwnInt(int):
    """A subclass of a plain type, which a pickle could pass off as its base."""


class OwnBytes(bytes):
    """The same of bytes."""


class OwnDict(dict[str, int]):
    """The same of a mapping."""


class OwnList(list[int]):
    """The same of a list."""


def _ring() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


IN_DISGUISE: dict[str, Any] = {
    **REFUSED,
    "int": OwnInt(1),
    "bytes": OwnBytes(b"b"),
    "dict": OwnDict(a=1),
    "list": OwnList([1]),
    "number of an enumeration": Level.LOW,
    "reduces to a name": Plainly("len"),
    "reduces to a number": Plainly((int, ("5",))),
    "reduces to a tuple": Plainly((tuple, ([1],))),
    "reduces to a text, with a state": Plainly((str, ("5",), {"a": 1})),
    "reduces to nothing": Plainly(None),
    "reduces to itself": Plainly((Plainly, (_ring(),))),
    "does not reduce": Plainly(RuntimeError("text")),
    "interrupts": Plainly(StopIteration()),
    "code": own_function.__code__,
    "memory": memoryview(b"text"),
    "deep": _deep(90),
    "deeper": _deep(101),
    "too deep to be pickled": _deep(100_000),
    "ring": _ring(),
    "large integer": 1 << 40_000,
    "lone surrogate": "\ud800",
    "plain": (1, "miros.mesh", "ping", 123456789012, 5, ("PING", "x" * 32)),
    "many": [{"n": n, "text": str(n)} for n in range(300)],
}


def _outcome(call: Any, *arguments: Any) -> tuple[Any, ...]:
    """Return what a call returned, or the type and text of the error that it raised."""
    try:
        return "gave", call(*arguments)
    except Exception as error:  # noqa: BLE001 - both ways must raise the same, whatever it is
        return "raised", type(error), str(error)


@contextlib.contextmanager
def _the_long_way() -> Iterator[None]:
    """Have our writer and our unpickler handle everything, plain data too."""

    def refuse(*_: Any) -> None:
        raise ValueError

    def check(*arguments: Any, **named: Any) -> Findings:
        found = check_opcodes(*arguments, **named)
        return Findings(False, found.needs_key_check, found.mappings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickling, "marshal", types.SimpleNamespace(dumps=refuse))
        patch.setattr(pickling, "check_opcodes", check)
        yield


def _assert_both_ways_agree(restricted: RestrictedPickle, value: Any) -> None:
    short = _outcome(restricted.dumps, value)
    with _the_long_way():
        long = _outcome(restricted.dumps, value)
    assert short == long
    if short[0] == "gave":
        _assert_both_ways_read_the_same(restricted, short[1])


def _assert_both_ways_read_the_same(restricted: RestrictedPickle, data: bytes) -> None:
    # Compared by their pickles: a value that contains itself cannot be compared, and NaN is not
    # equal to itself.
    def read(data: bytes) -> bytes:
        return pickle.dumps(restricted.loads(data))

    short = _outcome(read, data)
    with _the_long_way():
        assert short == _outcome(read, data)


@pytest.mark.parametrize("value", IN_DISGUISE.values(), ids=IN_DISGUISE)
@pytest.mark.parametrize("registered", [[], [OwnInt, Plainly, Level]], ids=["none", "some"])
def test_the_short_way_accepts_and_refuses_what_the_long_way_does(
    value: Any, registered: list[type]
) -> None:
    for hidden in (value, [value], {"key": (value,)}, (value, value)):
        _assert_both_ways_agree(RestrictedPickle(registered), hidden)


def test_the_short_way_runs_no_code_of_refused_objects() -> None:
    ran = []

    class Loud:
        def __reduce__(self) -> Any:
            ran.append(self)
            return int, ("5",)

    with pytest.raises(ClassRefused):
        RestrictedPickle().dumps({"a": [Loud()]})
    assert not ran


@settings(deadline=None, max_examples=200)
@given(
    _nested(
        ALLOWED_LEAVES
        | st.floats()
        | st.text(min_size=200, max_size=300)
        | st.integers(-(2**70), 2**70)
        | st.sampled_from(
            [
                value
                for name, value in IN_DISGUISE.items()
                if "deep" not in name and name != "large integer"
            ]
        )
    )
)
def test_the_short_way_agrees_with_the_long_one(value: Any) -> None:
    _assert_both_ways_agree(RestrictedPickle(), value)


@settings(deadline=None, max_examples=500)
@given(
    st.lists(
        st.sampled_from(
            [
                *(bytes([code]) for code in b"()]}NKMJqhrXC.etusa0\x8a\x85\x86\x87\x88\x82"),
                *(b"K\x01", b"h\x00", b"q\x00", b"X\x01\0\0\0a", b"C\x01b", b"R"),
                *(b"\x8a\x01\x05", b"cbuiltins\nset\n", b"cos\nsystem\n", b"\x81", b"b"),
            ]
        ),
        max_size=30,
    )
)
def test_both_ways_read_the_same_of_any_opcodes(codes: list[bytes]) -> None:
    _assert_both_ways_read_the_same(RestrictedPickle(), b"\x80\x03" + b"".join(codes) + b".")


# Keys and members that share one hash.

MODULUS = sys.hash_info.modulus


def _of_one_hash(count: int) -> list[int]:
    numbers = [(n << 16) * MODULUS + 5 for n in range(1, count + 1)]
    assert len({hash(number) for number in numbers}) == 1
    return numbers


CROWDS: dict[str, Any] = {
    "integers": lambda numbers: numbers,
    "tuples": lambda numbers: [(number, "a") for number in numbers],
    "tuples in tuples": lambda numbers: [(((number,),),) for number in numbers],
    "UUIDs": lambda numbers: [uuid.UUID(int=number % 2**128) for number in numbers],
    "Decimals": lambda numbers: [decimal.Decimal(number) for number in numbers],
    "Fractions": lambda numbers: [fractions.Fraction(number) for number in numbers],
    "complex": lambda numbers: [complex(0, n) + complex(-1000003 * n, 0) for n in range(500)],
    "frozensets": lambda numbers: [frozenset({number, 1}) for number in numbers],
}
CONTAINERS: dict[str, Any] = {
    "mapping": dict.fromkeys,
    "ordered mapping": collections.OrderedDict.fromkeys,
    "counter": lambda keys: collections.Counter(dict.fromkeys(keys, 1)),
    "set": set,
    "frozenset": frozenset,
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS)
def test_too_many_keys_of_one_hash_are_refused_on_both_sides(crowd: Any, make: Any) -> None:
    members = crowd(_of_one_hash(500))
    assert len(set(map(hash, members))) == 1
    value = [{"other": 1}, make(members)]
    with pytest.raises(ClassRefused, match="share one hash: put them into a list"):
        RestrictedPickle().dumps(value)
    with pytest.raises(ClassRefused, match="share one hash"):
        RestrictedPickle().loads(_written_unchecked(value))
    for pairs in ([(member, None) for member in members], members):
        assert RestrictedPickle().loads(RestrictedPickle().dumps(pairs)) == pairs


def _written_unchecked(value: Any) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickling, "check_opcodes", lambda *_, **__: Findings(is_plain=False))
        patch.setattr(unpickler, "STEPS_PER_COMPARED", 0)
        return RestrictedPickle().dumps(value)


def test_many_small_crowds_are_refused_as_well() -> None:
    crowd = _of_one_hash(30)
    for make in (set, dict.fromkeys):
        value: Any = [make(crowd) for _ in range(1_000)]
        with pytest.raises(ClassRefused, match="share one hash"):
            RestrictedPickle().dumps(value)
        with pytest.raises(ClassRefused, match="share one hash"):
            RestrictedPickle().loads(_written_unchecked(value))


def test_crowds_in_crowds_are_refused() -> None:
    """To compare two sets takes 128 comparisons of their members, which may be sets again."""

    def nested(levels: int, number: int) -> Any:
        if not levels:
            return (number << 16) * MODULUS + 5
        return frozenset(nested(levels - 1, number * 16 + n) for n in range(16))

    crowd = frozenset({nested(2, 0), nested(2, 1)})
    with pytest.raises(ClassRefused, match="share one hash"):
        RestrictedPickle().dumps(crowd)
    with pytest.raises(ClassRefused, match="share one hash"):
        RestrictedPickle().loads(_written_unchecked(crowd))


def test_too_many_numbers_as_keys_are_refused_because_they_may_collide() -> None:
    """Their hashes differ; only their order and their count make a mapping slow."""
    for make, count in ((dict.fromkeys, MAX_NUMBER_KEYS), (set, 2 * MAX_NUMBER_KEYS)):
        for step in (1, 3.5, 70_001, 2**40):
            value = make(n * step for n in range(count))
            assert RestrictedPickle().loads(RestrictedPickle().dumps(value)) == value
            beyond = make(n * step for n in range(count + count // 16))
            for values in (beyond, [beyond], [{"a": beyond}] * 2):
                with pytest.raises(
                    ClassRefused,
                    match="neither text nor bytes: put them into a list, or into a list of pairs",
                ):
                    RestrictedPickle().dumps(values)
    half = [dict.fromkeys(range(n, n + MAX_NUMBER_KEYS // 2)) for n in range(5)]
    assert RestrictedPickle().loads(RestrictedPickle().dumps(half[:4])) == half[:4]
    with pytest.raises(ClassRefused, match="neither text nor bytes"):
        RestrictedPickle().dumps(half)


def test_numbers_one_by_one_and_sets_of_one_list_are_counted_too() -> None:
    count = MAX_NUMBER_KEYS + MAX_NUMBER_KEYS // 16
    numbers = [b"J" + n.to_bytes(4, "little") for n in range(2 * count)]
    for codes in (
        b"}" + b"".join(number + b"Ns" for number in numbers[:count]),
        b"}" + b"".join(b"(" + number + b"Nu" for number in numbers[:count]),
        b"cbuiltins\nset\n]" + b"".join(number + b"a" for number in numbers) + b"\x85R",
        b"(cbuiltins\nset\nq\x00](" + b"".join(numbers[:count]) + b"e\x85q\x01R"
        + b"h\x00h\x01R" * 5 + b"t",
        b"ccollections\nCounter\n}(" + b"".join(n + b"N" for n in numbers[: count - 9]) + b"u\x85R",
    ):  # fmt: skip
        with pytest.raises(OpcodeRefused, match="neither text nor bytes"):
            RestrictedPickle().loads(b"\x80\x03" + codes + b".")


MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

LARGE: dict[str, Any] = {
    "texts": {f"key {n}": n for n in range(20_000)},
    "bytes": {str(n).encode(): n for n in range(20_000)},
    "set of numbers": set(range(20_000)),
    "set of texts": {f"member {n}" for n in range(20_000)},
    "UUIDs": [uuid.UUID(int=n * 2**90 + n) for n in range(20_000)],
    "set of UUIDs": {uuid.UUID(int=n * 2**90 + n) for n in range(10_000)},
    "moments": [MOMENT + datetime.timedelta(hours=n) for n in range(20_000)],
    "grid": {(x, y): None for x in range(-50, 50) for y in range(-50, 50)},
    "cells": frozenset((x, y, z) for x in range(-9, 9) for y in range(-9, 9) for z in range(-9, 9)),
    "counter": collections.Counter({f"word {n}": n for n in range(20_000)}),
    "ordered": collections.OrderedDict(((n, "a"), n) for n in range(9_000)),
    "prices": {decimal.Decimal(n) / 7: n for n in range(5_000)},
    "deques": [collections.deque([n]) for n in range(20_000)],
    "empty": [[[], {}, ()] for _ in range(20_000)],
    "records": [{"a": n} for n in range(60_000)],
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_large_ordinary_payloads_travel(value: Any) -> None:
    for registered in ([], [Own]):
        restricted = RestrictedPickle(registered)
        assert restricted.loads(restricted.dumps(value)) == value


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.tuples(st.integers(), st.text(max_size=2)) | st.fractions() | st.integers(2**70),
        st.dictionaries(st.tuples(st.integers()), st.integers() | st.uuids(), max_size=3),
        max_size=5,
    )
)
def test_the_check_of_key_hashes_changes_nothing(value: Any) -> None:
    value = {"a": value, "b": [value, {1: value}], "c": Own(), "d": collections.OrderedDict(value)}
    value[MOMENT.replace(tzinfo=OwnZone())] = [OwnSet({1}), Point(1, 2), Colour.RED, Own]
    restricted = RestrictedPickle([Own, OwnZone, OwnSet, Point, Colour])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle_check, "FEW_KEYS", -1)
        patch.setattr(pickle_check, "SMALL_BYTES", 0)
        assert restricted.loads(restricted.dumps(value)) == value


@pytest.mark.parametrize("name", ["mo\x1b[2J", "na\rme", "\u202e"], ids=repr)
def test_a_class_that_is_refused_puts_nothing_unprintable_into_the_log(name: str) -> None:
    data = b"\x80\x03c" + name.encode() + b"\n" + name.encode() + b"\nN\x85R."
    with pytest.raises(ClassRefused) as caught:
        RestrictedPickle().loads(data)
    assert str(caught.value).isprintable()
