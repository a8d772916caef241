"""Payloads beyond plain data: each is refused at the sender with advice, and the advice works."""

from __future__ import annotations

import array
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import itertools
import pathlib
import pickle
import queue
import re
import sys
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from miros_rabbitmq.exceptions import PayloadRefused
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.pickling import PROTOCOL, ClassRefused, RestrictedPickle

KEY = "bW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW0="
SECURITY = Path(__file__).parents[3] / "docs" / "security.rst"


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1


class Rights(enum.Flag):
    """Flags."""

    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Plain:
    """A dataclass."""

    x: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A frozen one."""

    x: int
    inner: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    """A frozen one with slots."""

    x: int


@dataclasses.dataclass(slots=True)
class Slots:
    """One with slots."""

    x: int


Pair = collections.namedtuple("Pair", "left right")


class Typed(NamedTuple):
    """The other kind."""

    left: int


class Moment(datetime.datetime):
    """A subclass of a standard class, which Python makes again of bytes."""


class TwoArguments(Exception):
    """An exception that pickles and does not load."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port}")


class TwoArgumentsAndForm(TwoArguments):
    """One that says how to make it again."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.parts = host, port

    def __reduce__(self) -> Any:
        return type(self), self.parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TwoArgumentsAndForm) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]


class Touchy:
    """Its state decides whether it can be loaded."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["x"] < 0:
            raise ValueError("x is negative")
        self.x = state["x"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Touchy) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]


class StubbornSlots:
    """Slots that nothing may set, and nothing says how else."""

    __slots__ = ("x",)

    def __init__(self) -> None:
        object.__setattr__(self, "x", 1)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is fixed")


class CallsFunction:
    """Pickles as a call of a function."""

    def __reduce__(self) -> Any:
        return make_one, ()


class NeedsKeyword:
    """Pickles with a keyword argument, which protocol 3 writes by a function."""

    def __new__(cls, *, x: int) -> NeedsKeyword:
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (), {"x": 1}


class HoldsLock:
    """Has a lock in an attribute."""

    def __init__(self) -> None:
        self.guard = threading.Lock()


class Busy:
    """Raises when it is pickled."""

    def __getstate__(self) -> Any:
        raise RuntimeError("not now")


def make_one() -> CallsFunction:
    """Make one; receivers never call this."""
    return CallsFunction()


def count() -> Iterator[int]:
    """Yield one number."""
    yield 1


def codec(*allowed: type) -> Codec:
    return Codec(KEY, allowed_classes=allowed)


def named_classes(text: str) -> list[type]:
    """The classes that a refusal says to register, by the names that it gives."""
    listed = re.search(r"allowed_classes=\[([\w, ]+)\]", text)
    named = re.search(r"may not contain (.+?): send plain data", text)
    if listed is None or named is None:
        return []
    paths = [
        path.removeprefix("the class ").removesuffix(" itself")
        for path in re.split(r", | or ", named[1])
    ]
    assert [path.rpartition(".")[2] for path in paths] == listed[1].split(", ")
    return [
        getattr(sys.modules[path.rpartition(".")[0]], path.rpartition(".")[2]) for path in paths
    ]


def follow_advice(payload: Any) -> tuple[list[type], Any]:
    """Do what refusals say until the payload travels; return the classes, and what arrives."""
    try:
        plain = codec().serialize(("SIGNAL", payload))
        return [], codec().deserialize(plain)[1]
    except PayloadRefused as error:
        classes = named_classes(str(error))
    assert classes, "the refusal names no classes"
    # One refusal names them all.
    plain = codec(*classes).serialize(("SIGNAL", payload))
    return classes, codec(*classes).deserialize(plain)[1]


BY_ITSELF: dict[str, Any] = {
    "set": {1},
    "frozenset": frozenset((1,)),
    "bytearray": bytearray(b"x"),
    "complex": 1j,
    "range": range(3),
    "date": datetime.date(2026, 1, 1),
    "datetime": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    "time": datetime.time(1),
    "timedelta": datetime.timedelta(1),
    "timezone": datetime.timezone.utc,
    "Decimal": decimal.Decimal(1),
    "Fraction": fractions.Fraction(1, 2),
    "UUID": uuid.UUID(int=1),
    "deque": collections.deque([1], 3),
    "OrderedDict": collections.OrderedDict(a=1),
    "Counter": collections.Counter("aab"),
}

WITH_CLASSES: dict[str, tuple[Any, list[type]]] = {
    "dataclass": (Plain(1), [Plain]),
    "dataclass, frozen": (Frozen(1), [Frozen]),
    "dataclass, frozen, with slots": (FrozenSlots(1), [FrozenSlots]),
    "dataclass with slots": (Slots(1), [Slots]),
    "dataclass in a dataclass": (Frozen(1, [Plain(2), Colour.RED]), [Frozen, Plain, Colour]),
    "namedtuple": (Pair(1, 2), [Pair]),
    "NamedTuple": (Typed(1), [Typed]),
    "Enum": (Colour.RED, [Colour]),
    "Flag": (Rights.READ | Rights.WRITE, [Rights]),
    "defaultdict": (collections.defaultdict(int, a=1), [collections.defaultdict, int]),
    "defaultdict without a factory": (collections.defaultdict(None), [collections.defaultdict]),
    "array": (array.array("d", [1.0, 2.5]), [array.array]),
    "array of bytes": (array.array("B", b"abc"), [array.array]),
    "empty array": (array.array("q"), [array.array]),
    "ZoneInfo": (zoneinfo.ZoneInfo("Europe/Berlin"), [zoneinfo.ZoneInfo]),
    "datetime with a ZoneInfo": (
        datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        [zoneinfo.ZoneInfo],
    ),
    "PosixPath": (Path("/a/b"), [pathlib.PosixPath]),
    "PurePath": (pathlib.PureWindowsPath("C:/a"), [pathlib.PureWindowsPath]),
    "IPv4Address": (ipaddress.ip_address("127.0.0.1"), [ipaddress.IPv4Address]),
    "network": (ipaddress.ip_network("fe80::/64"), [ipaddress.IPv6Network]),
    "SimpleNamespace": (types.SimpleNamespace(a=1), [types.SimpleNamespace]),
    "exception with a form": (TwoArgumentsAndForm("a", 1), [TwoArgumentsAndForm]),
    "touchy": (Touchy(1), [Touchy]),
    "class": (Plain, [Plain]),
    "class and object": ([Plain, Plain(1)], [Plain]),
    "slice": (slice(1, 2), [slice]),
    "subclass of datetime": (Moment(2026, 1, 1), [Moment]),
}

NEVER: dict[str, tuple[Callable[[], Any], str]] = {
    "function": (lambda: count, "a function, count.* send its name"),
    "lambda": (lambda: lambda: None, "send its name"),
    "built-in function": (lambda: len, "send its name"),
    "method": (lambda: Touchy(1).__setstate__, "send its name"),
    "partial": (lambda: functools.partial(count), "send its name"),
    "generator": (count, "send what it yields"),
    "iterator": (lambda: iter([1]), "send what it yields"),
    "map": (lambda: map(len, []), "send what it yields"),
    "count": (itertools.count, "send what it yields|allowed"),
    "dict_keys": (lambda: {}.keys(), "send a list of it"),
    "memoryview": (lambda: memoryview(b""), r"send bytes\(view\)"),
    "re.Pattern": (lambda: re.compile("a"), "send its pattern and flags"),
    "Lock": (threading.Lock, "a lock.*belongs to this process"),
    "Event": (threading.Event, "belongs to this process"),
    "Thread": (threading.Thread, "belongs to this process"),
    "queue": (queue.Queue, "a lock .the attribute mutex of queue.Queue."),
    "open file": (lambda: sys.__stdout__, "send its path, or what it contains"),
    "stream": (io.BytesIO, "what it contains"),
    "module": (lambda: sys, "a module, sys.*send its name"),
    "defaultdict of sets": (lambda: collections.defaultdict(set), r"Send dict\(it\)"),
    "defaultdict of a function": (lambda: collections.defaultdict(lambda: 0), r"Send dict\(it\)"),
    "exception with two arguments": (
        lambda: TwoArguments("a", 1),
        "could not make it again.*'port'.*__reduce__",
    ),
    "calls a function": (CallsFunction, "a call of the function make_one"),
    "needs a keyword": (lambda: NeedsKeyword(x=1), "a call of the function __newobj_ex__"),
    "holds a lock": (HoldsLock, "a lock .the attribute guard of .*HoldsLock.*this process"),
    "raises when pickled": (Busy, "cannot be pickled .RuntimeError: not now"),
    "ellipsis": (lambda: ..., "ellipsis: send plain data"),
    "local class": (lambda: type("Local", (), {})(), "Local: send plain data"),
}


@pytest.mark.parametrize("payload", BY_ITSELF.values(), ids=BY_ITSELF)
def test_standard_data_travels_by_itself(payload: Any) -> None:
    assert follow_advice(payload) == ([], payload)


@pytest.mark.parametrize(("payload", "classes"), WITH_CLASSES.values(), ids=WITH_CLASSES)
def test_the_classes_that_a_refusal_names_are_enough(payload: Any, classes: list[type]) -> None:
    for hidden in (payload, [payload], {"key": (payload, payload)}):
        named, arrived = follow_advice(hidden)
        assert named == classes
        assert arrived == hidden
        assert type(arrived) is type(hidden)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        FileNotFoundError(2, "no"),
        KeyError("k"),
        UnicodeDecodeError("a", b"b", 0, 1, "c"),
    ],
    ids=repr,
)
def test_exceptions_of_python_travel(error: Exception) -> None:
    error.where = "here"  # type: ignore[attr-defined]
    classes, arrived = follow_advice(error)
    assert classes == [type(error)]
    assert (type(arrived), arrived.args, arrived.where) == (type(error), error.args, "here")


@pytest.mark.parametrize(("make", "advice"), NEVER.values(), ids=NEVER)
def test_what_can_never_travel_is_refused_without_a_list_of_classes(
    make: Callable[[], Any], advice: str
) -> None:
    payload = make()
    for hidden in (payload, {"a": [payload]}):
        with pytest.raises(PayloadRefused, match=advice) as caught:
            codec().serialize(("SIGNAL", hidden))
        assert "allowed_classes=" not in str(caught.value)
        assert "a payload may not contain" in str(caught.value)


@pytest.mark.parametrize(
    "payload", [TwoArguments("a", 1), Touchy(-1), StubbornSlots(), CallsFunction(), HoldsLock()]
)
def test_an_object_of_a_registered_class_that_would_not_load_is_refused(payload: Any) -> None:
    knowing = codec(type(payload), Frozen, threading.Event)
    for hidden in (payload, Frozen(1, [payload])):
        with pytest.raises(PayloadRefused, match="send plain data") as caught:
            knowing.serialize(("SIGNAL", hidden))
        assert type(payload).__name__ in str(caught.value)


def test_whether_an_object_loads_is_found_out_each_time() -> None:
    knowing = codec(Touchy)
    for _ in range(2):
        knowing.serialize(("SIGNAL", Touchy(1)))
        with pytest.raises(PayloadRefused, match=r"this \S+\.Touchy.*ValueError: x is negative"):
            knowing.serialize(("SIGNAL", [Touchy(1), Touchy(-1)]))


def test_nothing_is_loaded_at_the_sender_without_objects_of_registered_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[bytes] = []
    pickling = sys.modules[RestrictedPickle.__module__]
    plain = pickling.RestrictedUnpickler

    def counted(data: bytes, classes: Any) -> Any:
        loaded.append(data)
        return plain(data, classes)

    monkeypatch.setattr(pickling, "RestrictedUnpickler", counted)
    one = RestrictedPickle([Plain])
    for payload in (1, "text", [1, {"a": (2.5,)}], *BY_ITSELF.values()):
        one.dumps(payload)
    assert not loaded
    one.dumps(Plain(1))
    assert len(loaded) == 1


def test_no_object_of_a_class_that_is_not_allowed_is_made_for_the_advice() -> None:
    made = []

    class_of = Touchy.__setstate__
    try:
        Touchy.__setstate__ = lambda self, state: made.append(state)  # type: ignore[method-assign]
        with pytest.raises(PayloadRefused, match=r"allowed_classes=\[Touchy\]"):
            codec().serialize(("SIGNAL", Touchy(1)))
    finally:
        Touchy.__setstate__ = class_of  # type: ignore[method-assign]
    assert not made


def test_advice_on_a_class_of_the_program_itself_says_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = type("InMain", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "InMain", own, raising=False)
    with pytest.raises(PayloadRefused, match=r"allowed_classes=\[InMain\].*module of its own"):
        codec().serialize(("SIGNAL", own()))
    written = RestrictedPickle([own]).dumps(own())
    with pytest.raises(ClassRefused, match=r"in its main program.*allowed_classes="):
        RestrictedPickle().loads(written)
    here = type("InMain", (), {"__module__": __name__})
    with pytest.raises(ClassRefused, match=rf"__main__\.InMain is not an .*{__name__}\.InMain is"):
        RestrictedPickle([here]).loads(written)


def test_paths_travel_between_versions_of_python() -> None:
    """Python 3.13 has their classes in another module."""
    one = RestrictedPickle([pathlib.PurePosixPath])
    written = one.dumps(pathlib.PurePosixPath("/a"))
    for module in (b"pathlib", b"pathlib._local"):
        moved = re.sub(rb"cpathlib(\._local)?\n", b"c" + module + b"\n", written)
        assert one.loads(moved) == pathlib.PurePosixPath("/a")


def test_a_zone_without_a_key_is_refused() -> None:
    with open("/usr/share/zoneinfo/Europe/Berlin", "rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(file)
    with pytest.raises(PayloadRefused, match="ZoneInfo: it cannot be pickled"):
        codec().serialize(("SIGNAL", zone))


def test_a_registered_pickler_of_the_program_counts_for_the_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, HoldsLock, lambda _: (Plain, (1,)))
    assert follow_advice(HoldsLock())[1] == Plain(1)


def test_numpy_is_told_in_plain_words() -> None:
    numpy = pytest.importorskip("numpy")
    for payload, advice in (
        (numpy.zeros(3), r"numpy\.ndarray.*tolist\(\)"),
        (numpy.float64(1), r"numpy\.float64.*item\(\)"),
        (numpy.int32(1), r"numpy\.int32.*item\(\)"),
        (numpy.bool_(1), r"item\(\)"),
    ):
        for allowed in ((), (type(payload),)):
            with pytest.raises(PayloadRefused, match=advice):
                codec(*allowed).serialize(("SIGNAL", payload))
    for payload in (numpy.zeros(3).tolist(), numpy.float64(1).item()):
        assert follow_advice(payload) == ([], payload)


def test_the_table_in_the_documents_is_true() -> None:
    text = SECURITY.read_text(encoding="utf-8")
    table = text[text.index("\n``set``  ") :].partition("\n====")[0]
    rows = dict(re.findall(r"^``([\w.]+)``\s+((?:.+\n?)(?:^ .*\n?)*)", table, re.MULTILINE))
    assert len(rows) == len(re.findall(r"^``", table, re.MULTILINE)) == 19
    for name, says in rows.items():
        words = re.findall(r"``(.+?)``", says)
        if name == "set":
            assert {name, *words} == set(BY_ITSELF)
        elif says.startswith("never"):
            assert name in NEVER or name.startswith("numpy.")
        elif name == "ValueError":
            assert words[0] == "[ValueError]"
        elif words and words[0].startswith("["):
            listed = words[0].strip("[]").split(", ")
            assert listed == [cls.__name__ for cls in WITH_CLASSES[name][1]], name
        else:
            assert name in WITH_CLASSES, name
    assert pickle.HIGHEST_PROTOCOL > PROTOCOL


def test_the_object_to_blame_is_found_in_front_of_many_others() -> None:
    payload = [Touchy(-1), *(Plain(n) for n in range(3_000))]
    with pytest.raises(ClassRefused, match=r"may not contain this .*Touchy"):
        RestrictedPickle([Plain, Touchy]).dumps(payload)


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_payload_too_deep_for_pickle_is_refused_with_advice(depth: int) -> None:
    payload: Any = 1
    for _ in range(depth):
        payload = [payload]
    with pytest.raises(PayloadRefused, match=r"nested.* 100 .*(flatter|plainer) data"):
        Codec(KEY).serialize(payload)
