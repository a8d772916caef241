"""miros's registries: untouched by imports, and guarded by `install` without a different answer."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from miros import Event, return_status, signals

from miros_rabbitmq.nets import registry
from tests.helpers import end_child, scaled

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    registry.install()


def run(program: str, *arguments: str) -> str:
    """Run a Python program in a process of its own, and return its output."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=scaled(60),
    ).stdout


# When it is installed.

IMPORT_ALL = """
import importlib, pkgutil
from miros import Event, return_status, signals
parts = signals, return_status, Event
before = [(type(part).__mro__, dict(vars(type(part))), dict(vars(part))) for part in parts]
init, names = Event.__init__, list(signals)
import miros_rabbitmq
for module in pkgutil.walk_packages(miros_rabbitmq.__path__, "miros_rabbitmq."):
    importlib.import_module(module.name)
after = [(type(part).__mro__, dict(vars(type(part))), dict(vars(part))) for part in parts]
assert after[:2] == before[:2]
assert Event.__init__ is init
"""

MAKE_A_CHART = """
chart = miros_rabbitmq.NetworkedActiveObject(
    "chart", "user", "password", b"A" * 43 + b"=", addresses=[], rabbit_host="127.0.0.2"
)
assert Event.__init__ is not init
assert list(signals)[:10] == names[:10]
print("both")
"""


def test_importing_the_package_changes_nothing_and_the_first_networked_object_does() -> None:
    assert run(IMPORT_ALL + MAKE_A_CHART) == "both\n"


def test_many_threads_may_install_it_at_the_same_time_while_others_use_the_registries() -> None:
    program = """
import sys, threading
from miros import Event, return_status, signals
from miros_rabbitmq.nets import registry
sys.setswitchinterval(1e-6)
failed, done = [], threading.Event()

def use(thread):
    try:
        for number in range(2000):
            assert Event(signal=signals.ENTRY_SIGNAL).signal_name == "ENTRY_SIGNAL"
            assert signals.is_inner_signal("ENTRY_SIGNAL")
            assert return_status.HANDLED == 4
    except BaseException as error:
        failed.append(error)
        raise

threads = [threading.Thread(target=use, args=(n,)) for n in range(3)]
threads += [threading.Thread(target=registry.install) for n in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed
below = type(signals).__bases__[0]
assert below.__bases__ == (below.__mro__[1],) and below.__mro__[1].__module__ == "miros.event"
print("once")
"""
    assert run(program) == "once\n"


# The same answers as plain miros.

EXPRESSIONS = """
signals
repr(signals)
str(signals)
type(signals), type(signals).__name__, type(signals).__module__
type(signals) is SignalSource, isinstance(signals, SignalSource), signals.__class__
type(return_status) is ReturnStatusSource, return_status.__class__
isinstance(signals, (dict, OrderedDict)), issubclass(type(signals), OrderedDictWithParams)
vars(signals), signals.__dict__, vars(return_status)
dir(signals), dir(return_status)
[name for name in vars(SignalSource) if name != "__dict__"]
inspect.signature(type(signals)), inspect.signature(Event), inspect.signature(signals.append)
inspect.signature(signals.is_inner_signal), inspect.signature(signals.name_for_signal)
Event.__init__.__qualname__, Event.__init__.__doc__, Event.__init__.__module__
signals.pop.__name__, signals.clear.__doc__, SignalSource.append.__qualname__
signals.NAMED, signals["NAMED"], signals.NAMED
signals.append("ONE"), signals.append("ONE"), signals.append("two words")
signals.append("items"), signals.items, signals["items"]
signals.append("_index"), signals.append("__class__"), signals.append("names"), signals.names
signals.append("highest_inner_signal"), signals.highest_inner_signal
signals.highest_inner_signal, signals["highest_inner_signal"]
len(signals), bool(signals), signals.__len__(), signals.__sizeof__() > 0
"ONE" in signals, "none" in signals, 1 in signals, None in signals, [] in signals
list(signals), list(reversed(signals)), sorted(signals), max(signals.values())
signals.keys(), type(signals.keys()), list(signals.keys())
signals.items(), type(signals.items()), list(signals.items()), list(reversed(signals.items()))
signals.values(), type(signals.values()), list(signals.values()), list(reversed(signals.values()))
signals.items().mapping, signals.values() == signals.values(), signals.items() == signals.items()
signals.keys() & {"ONE", "none"}, signals.items() - [("ONE", 11)]
signals.keys().isdisjoint(["X"])
[] in signals.values(), 3 in signals.values(), 99 in signals.values()
("ONE", 1) in signals.items()
held := (signals.values(), signals.items(), signals.keys(), iter(signals))
signals.append("LIVE"), [len(view) for view in held[:3]], signals["LIVE"] in held[0]
list(held[3])
next(iter(signals)), next(reversed(signals)), iter(signals)
signals.get("ONE"), signals.get("none"), signals.get("none", 7), signals["none"]
signals.copy(), type(signals.copy()), vars(signals.copy()), signals.copy() == signals
signals.copy().append("MINE"), "MINE" in signals
copied := signals.copy()
copied.append("COPIED"), copied.COPIED, "COPIED" in signals, copied.LATER, vars(copied)
copied.pop("ONE"), copied.is_inner_signal("ONE"), copied.name_for_signal(3), copied.clear()
copied
copied.ENTRY_SIGNAL, copied.__dict__ is vars(copied), copied.__dict__.update(x=1), copied.x
signals | {}, signals | {"OTHER": 5}, type(signals | {}), {} | signals, type({} | signals)
signals | signals == signals, signals | [], [] | signals
type(signals)(), type(signals)() == signals, type(signals)().NEW, type(signals)({"A": 1})
SignalSource.fromkeys(["A", "B"]), signals.fromkeys(["A"], 3), type(signals).fromkeys("AB")
Signal() is signals, ReturnStatus() is return_status
pickle.dumps(signals), pickle.dumps(signals, 2), pickle.dumps(type(signals))
pickle.loads(pickle.dumps(signals)), pickle.loads(pickle.dumps(type(signals)))
signals.__reduce__(), signals.__reduce_ex__(2), signals.__reduce_ex__(4)
getattr(object, "__getstate__", None) and signals.__getstate__()
copy.copy(signals), signals
copy.copy(signals)
copy.deepcopy(signals)
copy.deepcopy(signals), signals
pickle.loads(pickle.dumps(return_status)), copy.copy(return_status), return_status.copy()
vars(copy.copy(return_status)), copy.deepcopy(return_status)
return_status, vars(return_status), return_status.__reduce_ex__(4), return_status == signals
return_status.HANDLED, return_status["HANDLED"]
[getattr(return_status, n) for n in return_status]
hasattr(return_status, "NONE")
return_status.append("RET_ZZ"), return_status.RET_ZZ, return_status.append("RET_ZZ")
return_status.pop("RET_ZZ"), return_status.RET_ZZ
return_status.copy().clear(), len(return_status)
signals == dict(signals), dict(signals) == signals, signals == OrderedDict(signals), signals != {}
signals == OrderedDict(reversed(signals.items())), signals < signals, hash(signals)
json.dumps(signals), dict(**signals), [*signals], {**signals}, tuple(signals.items())
Event.dumps(Event(signal="ONE", payload=1)), Event.loads('{"signal_name": "L", "payload": null}')
Event(signal="MADE"), vars(Event(signal="MADE")), signals.MADE, Event("MADE", 1)
Event("MADE", None)
[(Event(signal=n), vars(Event(signal=n))) for n in list(signals)]
[(Event(signal=n), vars(Event(signal=n, payload=n))) for n in list(signals.values())]
Event(signal=True), Event(signal=1.0), vars(Event(signal=True)), Event(signal=1.0).signal
Event(signal=99)
Event(signal=None)
Event(signal=[1])
Event()
Event(signal="", payload=0), signals[""], Event(signal=signals[""])
Event(signal=Text("of a class of one's own")), type(list(signals)[-1])
type(Event(signal=Text("ONE")).signal_name), Event(signal=Fraction(3, 1))
Event(signal=IntSignal.A)
Event(signal="ONE").signal_name is Event(signal=signals.ONE).signal_name
bool(Event(signal="ONE"))
[signals.is_inner_signal(one) for one in (*signals, *signals.values())]
[signals.is_inner_signal(one) for one in ("no", 99, 0, -1, None, 1.0, True, [], b"EXIT_SIGNAL")]
signals.is_inner_signal(Text("EXIT_SIGNAL")), signals.is_inner_signal(IntSignal.A)
[signals.name_for_signal(number) for number in signals.values()]
signals.name_for_signal(99)
signals.name_for_signal("ONE")
signals.update(UPDATED=50), signals.update({"TWO": 51}), signals.update([("THREE", 52)], FOUR=53)
signals.UPDATED, signals.TWO, signals["THREE"], Event(signal=53), Event(signal="FOUR"), signals
signals.setdefault("ONE", 7), signals.setdefault("DEFAULT", 60), signals.DEFAULT, Event(signal=60)
signals.setdefault("NO_DEFAULT"), signals.NO_DEFAULT, Event(signal=None)
Event(signal="NO_DEFAULT")
signals.pop("NO_DEFAULT"), "NO_DEFAULT" in signals, Event(signal=None)
operator.ior(signals, {"IOR": 70}) is signals, signals.IOR, Event(signal=70)
operator.ior(signals, 5)
operator.setitem(signals, "ALIAS", signals["ONE"]), signals.ALIAS, Event(signal="ALIAS")
Event(signal=signals.ALIAS)
operator.setitem(signals, "INNER_ALIAS", 1), signals.is_inner_signal("INNER_ALIAS")
Event(signal=1)
operator.setitem(signals, "FLOAT_ALIAS", 2.0), signals.is_inner_signal("FLOAT_ALIAS")
Event(signal=2.0)
operator.setitem(signals, "ONE", 80), signals.ONE, Event(signal=80), Event(signal="ONE")
signals.ALIAS
operator.setitem(signals, "LISTED", [1]), signals.LISTED, Event(signal=[1])
Event(signal="LISTED")
signals.pop("LISTED"), "LISTED" in signals, Event(signal="AFTER_LISTED")
Event(signal=signals.AFTER_LISTED)
operator.setitem(signals, "TEXT", "a text"), Event(signal="a text"), signals.TEXT
Event(signal="TEXT")
operator.setitem(signals, ("a", "tuple"), 90), Event(signal=90), signals[("a", "tuple")]
signals.pop(("a", "tuple"))
operator.setitem(signals, [], 1)
operator.delitem(signals, "TWO"), "TWO" in signals, signals.get("TWO"), 51 in signals.values()
operator.delitem(signals, "none")
operator.delitem(signals, "highest_inner_signal"), signals.highest_inner_signal
signals.pop("THREE"), signals.pop("none", 1), signals.pop("two words")
signals.pop("FOUR", default=2)
signals.pop("none")
signals.pop()
signals.TWO, signals["TWO"], list(signals)[-3:]
signals.popitem(), signals.popitem(last=True), signals.popitem(last=False), signals
signals.is_inner_signal("EXIT_SIGNAL"), signals.is_inner_signal(11)
signals.is_inner_signal("NAMED")
signals.popitem(first=True)
operator.setitem(signals, "ENTRY_SIGNAL", 1), signals.move_to_end("ENTRY_SIGNAL", last=False)
signals
signals.is_inner_signal("NAMED"), signals.is_inner_signal("ENTRY_SIGNAL"), signals.ENTRY_SIGNAL
signals.move_to_end("NAMED"), list(signals)[-1], Event(signal="NAMED")
Event(signal=signals.NAMED)
signals.move_to_end("none")
setattr(signals, "OWN", 5), signals.OWN, "OWN" in signals, vars(signals)
signals.append("OWN"), signals.OWN, signals["OWN"], Event(signal="OWN")
Event(signal=signals["OWN"])
delattr(signals, "OWN"), signals.OWN, vars(signals)
setattr(signals, "UPDATED", 6), signals.UPDATED, signals["UPDATED"], vars(signals)
signals.pop("UPDATED"), signals.UPDATED
delattr(signals, "UPDATED"), vars(signals)
delattr(signals, "ENTRY_SIGNAL")
signals.ENTRY_SIGNAL, hasattr(signals, "ASKED_WITH_HASATTR"), "ASKED_WITH_HASATTR" in signals
delattr(signals, "nothing at all")
setattr(signals, "highest_inner_signal", 3), [signals.is_inner_signal(one) for one in signals]
setattr(signals, "highest_inner_signal", 10), [signals.is_inner_signal(one) for one in signals]
getattr(signals, "mro"), signals["mro"], getattr(signals, "__doc__") == SignalSource.__doc__
signals.__init__(), signals, signals.ENTRY_SIGNAL
signals.clear(), signals, len(signals), Event(signal="FIRST"), Event(signal=1), vars(signals)
signals.is_inner_signal("FIRST"), signals.is_inner_signal(1), signals.FIRST, signals.ENTRY_SIGNAL
signals.__init__(), signals, [Event(signal=n) for n in signals.values()], signals.FIRST
signals.clear(), signals.popitem()
"""

ASK = """
import sys
from miros import Event, return_status, signals
if sys.argv[1] == "installed":
    from miros_rabbitmq.nets import registry
    registry.install()
import copy, enum, inspect, json, operator, pickle, random
from collections import OrderedDict
from fractions import Fraction
from miros.event import OrderedDictWithParams, ReturnStatus, ReturnStatusSource
from miros.event import Signal, SignalSource

class Text(str):
    pass

class IntSignal(enum.IntEnum):
    A = 3

def outcome(expression):
    try:
        return repr(eval(expression, globals()))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""

ASK_EACH = (
    ASK
    + """
for expression in sys.stdin.read().strip().splitlines():
    print(expression, "->", outcome(expression))
"""
)


def answers(installed: str, program: str, expressions: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, installed],
        check=False,
        capture_output=True,
        text=True,
        input=expressions,
        cwd=ROOT,
        timeout=scaled(60),
        # Addresses would differ, and hashes would order sets differently.
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stderr
    return [_without_addresses(line) for line in done.stdout.splitlines()]


def _without_addresses(line: str) -> str:
    return re.sub(" at 0x[0-9a-f]+", "", line)


def test_every_expression_has_the_value_of_plain_miros() -> None:
    """One after the other, so that each sees the changes of all before it."""
    plain = answers("plain", ASK_EACH, EXPRESSIONS)
    assert len(plain) == len(EXPRESSIONS.strip().splitlines())
    assert sum("Error:" not in line for line in plain) > 90, "most expressions have a value"
    assert answers("installed", ASK_EACH, EXPRESSIONS) == plain


ASK_AT_RANDOM = (
    ASK
    + """
CHANGES = '''
signals.append({name!r})
getattr(signals, {name!r})
Event(signal={name!r})
operator.setitem(signals, {name!r}, {number})
operator.delitem(signals, {name!r})
signals.pop({name!r})
signals.pop({name!r}, None)
signals.popitem()
signals.popitem(last=False)
signals.move_to_end({name!r})
signals.move_to_end({name!r}, last=False)
signals.setdefault({name!r}, {number})
signals.update({{{name!r}: {number}}})
operator.ior(signals, [({name!r}, {number})])
setattr(signals, {name!r}, {number})
delattr(signals, {name!r})
setattr(signals, "highest_inner_signal", {number})
'''.strip().splitlines()
QUESTIONS = '''
list(signals.items())
vars(signals)
[vars(Event(signal=one)) for one in (*signals.values(), *list(signals))]
[getattr(signals, name) for name in list(signals)]
[signals.is_inner_signal(one) for one in (*signals, *signals.values(), {name!r}, {number})]
[signals.name_for_signal(number) for number in signals.values()]
signals.copy() == signals
'''.strip().splitlines()
chance = random.Random(int(sys.stdin.read()))
for step in range(400):
    name = chance.choice(
        ["A", "B", "C", "ENTRY_SIGNAL", "EXIT_SIGNAL", "name_for_signal", "_index"]
    )
    number = chance.choice([1, 2, 11, 12, 13, 2.0, True, "A", None])
    change = chance.choice(CHANGES).format(name=name, number=repr(number))
    print(change, "->", outcome(change))
    for question in QUESTIONS:
        print(question, "->", outcome(question.format(name=name, number=repr(number))))
"""
)


@pytest.mark.parametrize("seed", range(4))
def test_after_any_changes_the_answers_are_those_of_plain_miros(seed: int) -> None:
    plain = answers("plain", ASK_AT_RANDOM, str(seed))
    assert len(plain) == 400 * 8
    assert answers("installed", ASK_AT_RANDOM, str(seed)) == plain


# Threads.


def test_a_signal_can_be_used_as_soon_as_it_is_there() -> None:
    """Another thread may run between any two lines of the addition."""
    name = "AS_SOON_AS_IT_IS_THERE"
    looks = 0

    def look(*_: Any) -> Any:
        nonlocal looks
        sys.settrace(None)
        assert name not in vars(signals)
        if name in signals:
            assert Event(signal=signals[name]).signal_name == name
            assert getattr(signals, name) == signals[name]
        looks += 1
        sys.settrace(look)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        signals.append(name)
    finally:
        sys.settrace(before)
    assert looks > 10
    assert name in signals


@pytest.mark.parametrize(
    "add",
    [
        lambda name: signals.append(name),
        lambda name: getattr(signals, name),
        lambda name: Event(signal=name),
    ],
    ids=["append", "attribute", "event"],
)
def test_threads_that_add_at_the_same_time_give_each_name_a_number_of_its_own(add: Any) -> None:
    began = threading.Barrier(4)
    errors: list[str] = []
    seed = random.random()

    def work(thread: int) -> None:
        began.wait()
        try:
            for n in range(200):
                add(f"BY_THREADS_{seed}_{thread}_{n}")
                assert Event(signal=signals.ENTRY_SIGNAL).signal_name == "ENTRY_SIGNAL"
                with pytest.raises(TypeError):
                    Event(signal=10**9)  # not the number of a signal: miros searches all of them
        except BaseException:  # noqa: BLE001 - any that a thread may raise
            errors.append(traceback.format_exc())

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert errors == []
    numbers = list(signals.values())
    assert len(set(numbers)) == len(numbers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_add_although_a_thread_of_its_parent_was_adding() -> None:
    held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with registry.lock:
            held.set()
            may_go.wait(scaled(30))

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(scaled(10))
    child = os.fork()
    if child == 0:
        try:
            Event(signal="ADDED_BY_A_CHILD")
            end_child(0 if "ADDED_BY_A_CHILD" in signals else 2)
        finally:
            end_child(1)
    may_go.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert "ADDED_BY_A_CHILD" not in signals


# What makes it quick.


def test_the_most_frequent_questions_are_answered_without_a_search() -> None:
    """The benchmark measures how quick; this test fails if a shortcut is missing."""

    class Untouchable(type(signals)):  # type: ignore[misc]  # miros has no type hints
        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"{name} was looked up in the registry")

    signals.append("QUICK")
    before = type(signals)
    signals.__class__ = Untouchable
    try:
        assert signals.QUICK
        assert Event(signal=signals.QUICK).signal_name == "QUICK"
    finally:
        signals.__class__ = before
    assert return_status.HANDLED == 4
