"""What the restricted pickle takes, on writing and on reading, and what it refuses."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import datetime
import decimal
import enum
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

from miros_rabbitmq import pickling
from miros_rabbitmq.exceptions import SettingsError
from miros_rabbitmq.opcodes import OpcodeRefused, check_opcodes
from miros_rabbitmq.pickling import HARMLESS, PROTOCOL, ClassRefused, RestrictedPickle

EXTENSION_CODE = 0xF1


class Own:
    """A class that nobody has allowed."""

    class Nested:
        """One inside another."""

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self)

        __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return 7

    def method(self) -> None:
        """Something to refer to."""


class OwnText(str):
    """A subclass of what is plain data."""


class OwnSet(set[int]):
    """A subclass of a class that is allowed."""


class Point(NamedTuple):
    """A tuple with names is a class of its own."""

    x: int
    y: int


class Colour(enum.Enum):
    """An enumeration is, too."""

    RED = 1


class Shell:
    """Pickles as a call, the way an attacker's object does."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def own_function() -> None:
    """A function of this module."""


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
    """A pickle of ``os.system`` as the number of a registered extension."""
    # Known by the module that defines it, which differs between systems.
    module = os.system.__module__
    copyreg.add_extension(module, "system", EXTENSION_CODE)
    try:
        yield b"\x80\x02\x82" + bytes([EXTENSION_CODE]) + b"."
    finally:
        copyreg.remove_extension(module, "system", EXTENSION_CODE)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_the_writer_refuses_what_is_no_plain_data(value: Any) -> None:
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
            assert re.search("not an allowed class|no classes are registered", str(caught.value))


def _pickles_of(value: Any) -> Iterator[tuple[int, bytes]]:
    """In each protocol that can write it: the oldest know neither slots nor methods."""
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


def test_what_cannot_be_pickled_at_all_is_refused() -> None:
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
def test_an_extension_code_opens_no_way_round_the_list(extension: bytes, width: int) -> None:
    """Nor one that the program has used before, which pickle takes from a cache."""
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
    with pytest.raises(ClassRefused, match="not rebuilt from such arguments"):
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
    [b"collections\nCounter", b"fractions\nFraction", b"uuid\nUUID", b"builtins\nbytearray"],
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
        with pytest.raises(SettingsError, match="at the top of its module"):
            RestrictedPickle([cls])


def test_a_class_as_a_value_is_no_way_to_the_class() -> None:
    restricted = RestrictedPickle()
    for cls in HARMLESS:
        restored = restricted.loads(restricted.dumps(cls))
        assert not isinstance(restored, type)
        with pytest.raises(ClassRefused):
            restored.tainted = True


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


def test_a_value_that_contains_itself_comes_back_so() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    restored = RestrictedPickle().loads(RestrictedPickle().dumps(ring))
    assert restored[0] == 1
    assert restored[1] is restored


def test_a_copyreg_function_of_the_program_is_no_way_past_the_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, decimal.Decimal, lambda _: (os.system, ("true",)))
    with pytest.raises(ClassRefused, match="builtin_function_or_method"):
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
        # UUIDs of Python's own writing are refused by the opcode, before a class is looked up.
        with pytest.raises(pickle.UnpicklingError):
            restricted.loads(anything)
    else:
        assert restricted.loads(written) == value


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_no_bytes_have_anything_imported(garbage: bytes) -> None:
    before = set(sys.modules)
    with contextlib.suppress(Exception):
        RestrictedPickle().loads(b"\x80\x03" + garbage)
    assert set(sys.modules) == before


# ---- the short way of plain data, beside the way of everything else


class Plainly:
    """Reduces to something that is plain data, or would be one."""

    def __init__(self, reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        if isinstance(self.reduced, Exception):
            raise self.reduced
        return self.reduced


class OwnInt(int):
    """Subclasses of the plain types; a pickle could pass each off as its base."""


class OwnBytes(bytes):
    """Another."""


class OwnDict(dict[str, int]):
    """Another."""


class OwnList(list[int]):
    """Another."""


class Level(enum.IntEnum):
    """Equal to its number."""

    LOW = 1


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
    """What a call gave, bytes and values as they are, or the error and its text."""
    try:
        return "gave", call(*arguments)
    except Exception as error:  # noqa: BLE001 - any kind is to be the same
        return "raised", type(error), str(error)


@contextlib.contextmanager
def _the_long_way() -> Iterator[None]:
    """The writer and the reader take everything on themselves, plain data too."""

    def refuse(*_: Any) -> None:
        raise ValueError

    def check(*arguments: Any, **named: Any) -> bool:
        check_opcodes(*arguments, **named)
        return False

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
    # Written again, as a value that contains itself cannot be compared, nor NaN be equal.
    def read(data: bytes) -> bytes:
        return pickle.dumps(restricted.loads(data))

    short = _outcome(read, data)
    with _the_long_way():
        assert short == _outcome(read, data)


@pytest.mark.parametrize("value", IN_DISGUISE.values(), ids=IN_DISGUISE)
@pytest.mark.parametrize("registered", [[], [OwnInt, Plainly, Level]], ids=["none", "some"])
def test_the_short_way_takes_and_refuses_what_the_long_one_does(
    value: Any, registered: list[type]
) -> None:
    for hidden in (value, [value], {"key": (value,)}, (value, value)):
        _assert_both_ways_agree(RestrictedPickle(registered), hidden)


def test_the_short_way_runs_no_code_of_what_is_refused() -> None:
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
