"""Subclasses of charts: which names they may use, and which errors the other names raise."""

from __future__ import annotations

import base64
import functools
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from miros import ActiveObject, Event, Factory, return_status, signals, spy_on

from miros_rabbitmq import MirosApiException, NetworkedActiveObject, NetworkedFactory
from miros_rabbitmq.chart import overrides
from tests.helpers import wait_until

KEY = base64.urlsafe_b64encode(bytes(range(32)))
ARGUMENTS: dict[str, Any] = {
    "rabbit_user": "user",
    "rabbit_password": "password",
    "mesh_encryption_key": KEY,
    "rabbit_host": "127.0.0.2",
    "addresses": [],
}
NETWORKED = [NetworkedActiveObject, NetworkedFactory]

OUR_METHODS = sorted(
    name
    for each in (NetworkedActiveObject, NetworkedFactory)
    for kind in each.__mro__
    if kind.__module__.startswith("miros_rabbitmq")
    for name, value in vars(kind).items()
    if callable(value) and not name.startswith("_")
)


@spy_on
def counting(chart: Any, e: Event) -> Any:
    if e.signal == signals.COUNT:
        chart.counted = getattr(chart, "counted", 0) + 1
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def made(kind: Any, *, name: str = "chart", **arguments: Any) -> Any:
    """A chart that can be started without RabbitMQ."""
    chart = kind(name, **{**ARGUMENTS, **arguments})
    without_network(chart)
    return chart


def without_network(chart: Any) -> None:
    chart.nets.start = lambda: None


def runs_and_stops(chart: Any) -> None:
    for lives in (1, 2):
        chart.start_at(counting)
        try:
            chart.post_fifo(Event(signal=signals.COUNT))
            wait_until(lambda: getattr(chart, "counted", 0) == lives)  # noqa: B023
        finally:
            chart.stop()
        assert not chart.thread.is_alive()


# What is refused when a class is made.


def by_body(base: type, name: str, value: object) -> type:
    return type("Robot", (base,), {name: value})


def by_mixin(base: type, name: str, value: object) -> type:
    return type("Mixing", (type("Robot", (), {name: value}), base), {})


def by_grandchild(base: type, name: str, value: object) -> type:
    return type("Robot", (type("Child", (base,), {}),), {name: value})


WAYS = [by_body, by_mixin, by_grandchild]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("base", NETWORKED)
@pytest.mark.parametrize("name", sorted(overrides.CALLED))
def test_a_method_that_a_chart_needs_must_stay_a_method(name: str, base: type, way: Any) -> None:
    values: list[object] = [False, None, [], "text", property(lambda self: True)]
    for value in values:
        with pytest.raises(MirosApiException, match=rf"^Robot\.{name} is not a method.*another"):
            way(base, name, value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("base", NETWORKED)
@pytest.mark.parametrize("name", sorted(overrides.KEPT))
def test_data_that_a_chart_keeps_cannot_be_a_method_too(name: str, base: type, way: Any) -> None:
    def method(self: object) -> None:
        """Anything that a user could write."""

    values: list[object] = [
        method,
        property(method),
        functools.cached_property(method),
        classmethod(method),
        staticmethod(method),
    ]
    for value in values:
        with pytest.raises(MirosApiException, match=rf"^Robot\.{name} is a method.*another name"):
            way(base, name, value)


def test_what_a_factory_alone_keeps_is_free_in_an_active_object() -> None:
    for name in overrides.KEPT_BY_FACTORY:
        with pytest.raises(MirosApiException, match=rf"^Robot\.{name} is a method"):
            by_body(NetworkedFactory, name, lambda self: None)
        runs_and_stops(made(by_body(NetworkedActiveObject, name, lambda self: None)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [lambda self: None, property(lambda self: 1), None, 3])
def test_the_networks_cannot_be_hidden(value: object, way: Any) -> None:
    with pytest.raises(MirosApiException, match=r"^Robot\.nets hides the networks.*another name"):
        way(NetworkedActiveObject, "nets", value)


# What is refused when a chart is made.


@pytest.mark.parametrize("base", NETWORKED)
@pytest.mark.parametrize("name", [*sorted(overrides.NOT_BEFORE), "nets", "lan"])
def test_what_is_set_before_the_chart_is_constructed_and_would_be_lost_is_refused(
    name: str, base: Any
) -> None:
    class Robot(base):  # type: ignore[misc]
        def __init__(self) -> None:
            setattr(self, name, 3)
            super().__init__("robot", **ARGUMENTS)

    with pytest.raises(MirosApiException, match=rf"^Robot .*{name}.*another name"):
        Robot()


@pytest.mark.parametrize("name", ["nets", "lan"])
def test_an_attribute_that_is_the_charts_own_cannot_be_set_later(name: str) -> None:
    chart = made(by_body(NetworkedActiveObject, "_unused", 1))
    with pytest.raises(MirosApiException, match=rf"^Robot sets {name}.*another name"):
        setattr(chart, name, 3)
    runs_and_stops(chart)


# What is refused when a chart starts.


@pytest.mark.parametrize("name", sorted(overrides.CALLED - {"start_at"}))
def test_a_method_that_became_a_value_is_refused_at_the_start(name: str) -> None:
    chart = made(by_body(NetworkedActiveObject, "_unused", 1))
    setattr(chart, name, False)
    with pytest.raises(MirosApiException, match=rf"^Robot has set {name} to False.*another name"):
        chart.start_at(counting)
    assert chart.thread is None
    delattr(chart, name)
    runs_and_stops(chart)


@pytest.mark.parametrize("value", ["idle", 20.5, None, []], ids=repr)
@pytest.mark.parametrize("name", sorted(overrides.NOT_REPLACED | {"thread"}))
def test_what_a_chart_keeps_its_data_in_cannot_be_replaced(name: str, value: object) -> None:
    chart = made(by_body(NetworkedActiveObject, "_unused", 1))
    before = getattr(chart, name)
    if before is value:
        return
    setattr(chart, name, value)
    with pytest.raises(MirosApiException, match=rf"^Robot has replaced .*{name},.*another name"):
        chart.start_at(counting)
    setattr(chart, name, before)
    runs_and_stops(chart)


def test_the_states_of_a_factory_cannot_be_replaced() -> None:
    chart = made(by_body(NetworkedFactory, "_unused", 1))
    chart.states = ["idle"]
    with pytest.raises(MirosApiException, match=r"^Robot has replaced .*states,.*another name"):
        chart.start_at(counting)
    free = made(NetworkedActiveObject)
    free.states = ["idle"]
    runs_and_stops(free)


@pytest.mark.parametrize("base", NETWORKED)
@pytest.mark.parametrize("value", ["idle", None, -1, [], object()], ids=repr)
def test_whatever_an_attribute_of_miros_is_set_to_a_chart_runs_or_says_what_to_do(
    value: object, base: Any
) -> None:
    for name in sorted(vars(made(base)).keys() - {"_miros_rabbitmq", "nets"}):
        chart = made(base)
        setattr(chart, name, value)
        said = f"{name} another name"
        try:
            runs_and_stops(chart)
        except MirosApiException as error:
            said = str(error)
        assert re.search(rf"\b{name}\b.*another name", said)


@pytest.mark.parametrize("name", sorted(overrides.CALLED_BACK))
def test_a_live_callback_may_be_replaced_by_a_function_only(name: str) -> None:
    chart = made(by_body(NetworkedActiveObject, "_unused", 1))
    setattr(chart, name, False)
    with pytest.raises(MirosApiException, match=rf"^Robot has set {name} to False.*another name"):
        chart.start_at(counting)
    setattr(chart, name, lambda line: None)
    runs_and_stops(chart)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "name", ["queue", "thread", "activeobject_task_event", "posted_events_queue", "stop", "name"]
)
def test_a_chart_whose_attributes_are_broken_while_it_runs_can_still_be_stopped(name: str) -> None:
    with made(NetworkedActiveObject) as chart:
        chart.start_at(counting)
        thread = chart.thread
        setattr(chart, name, False)
    assert not thread.is_alive()


# What is allowed.


@pytest.mark.parametrize("base", NETWORKED)
def test_a_subclass_may_override_each_method_and_call_the_original(base: Any) -> None:
    called: set[str] = set()

    def overriding(name: str) -> Callable[..., Any]:
        def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
            called.add(name)
            return getattr(super(robot, self), name)(*arguments, **keywords)

        return method

    names = {*overrides.CALLED, *OUR_METHODS} - {
        *("live_spy_callback_default", "live_trace_callback_default"),  # these have no self
        "signal_callback" if base is NetworkedActiveObject else "",
    }
    robot: Any = type("Robot", (base,), {name: overriding(name) for name in names})
    runs_and_stops(made(robot))
    assert {"start_at", "stop", "run_event", "next_rtc", "dispatch", "post_fifo"} <= called


@pytest.mark.parametrize(
    "value",
    [
        functools.partialmethod(lambda self: None),
        functools.lru_cache(lambda self: None),
        staticmethod(lambda: None),
    ],
    ids=["partialmethod", "cached", "static"],
)
def test_a_method_may_be_of_any_kind_that_can_be_called(value: object) -> None:
    by_body(NetworkedActiveObject, "transmit", value)


@pytest.mark.parametrize("base", NETWORKED)
@pytest.mark.parametrize(
    "name",
    [
        *("lan", "this_url", "other_urls", "trace", "snoop_scribble", "enable_snoop_trace"),
        *("_life", "_end_thread", "_cancel_timers", "_told", "_tell_snoops", "_started"),
        *("_room_for_remote_events", "life", "fifo", "parts", "_nets", "_queue", "_changed"),
    ],
)
def test_a_name_that_nothing_depends_on_may_be_anything(name: str, base: type) -> None:
    for value in (3, None, lambda self: None, property(lambda self: 1)):
        runs_and_stops(made(by_body(base, name, value)))
    if name != "lan":
        chart = made(base)
        setattr(chart, name, 3)
        runs_and_stops(chart)
        assert getattr(chart, name) == 3


def test_what_is_set_before_the_construction_under_any_other_name_is_kept() -> None:
    class Robot(NetworkedActiveObject):
        def __init__(self) -> None:
            self._life = 3
            self.speed = 4
            self.name = "robot"
            super().__init__(self.name, **ARGUMENTS)

    robot: Any = Robot()
    without_network(robot)
    runs_and_stops(robot)
    assert (robot._life, robot.speed, robot.name) == (3, 4, "robot")


@pytest.mark.parametrize("name", sorted(overrides.KEPT))
def test_data_that_a_chart_keeps_may_have_a_value_in_the_class(name: str) -> None:
    runs_and_stops(made(by_body(NetworkedActiveObject, name, None)))


def test_data_that_a_chart_keeps_may_be_a_property_that_can_be_set() -> None:
    class Robot(NetworkedActiveObject):
        @property
        def name(self) -> str:
            return self._called

        @name.setter
        def name(self, value: str) -> None:
            self._called = value

    runs_and_stops(made(Robot))


def test_a_chart_may_be_a_stand_in_in_part() -> None:
    """Tests do this with monkeypatch or a mock."""
    chart = made(NetworkedActiveObject)
    sent: list[Event] = []
    chart.transmit = sent.append
    runs_and_stops(chart)
    chart.transmit(Event(signal=signals.COUNT))
    assert len(sent) == 1


# The lists are complete.


class Noting:
    """Notes each name that is looked up on a chart, by miros or by this package."""

    noted: set[str]

    def __getattribute__(self, name: str) -> Any:
        if "noted" in object.__getattribute__(self, "__dict__"):
            object.__getattribute__(self, "noted").add(name)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize(
    ("base", "plain"), [(NetworkedActiveObject, ActiveObject), (NetworkedFactory, Factory)]
)
def test_each_name_that_a_chart_uses_to_start_run_and_stop_is_in_one_of_the_lists(
    base: Any, plain: Any
) -> None:
    class Robot(Noting, base):  # type: ignore[misc]
        pass

    robot: Any = made(Robot)
    for name in vars(robot):
        if not name.startswith("_") and name != "noted":
            kept = overrides.KEPT | overrides.KEPT_BY_FACTORY
            assert name in kept, f"each chart has an attribute {name}"
    robot.noted = set()
    runs_and_stops(robot)
    used = {name for name in robot.noted if not name.startswith("_")} - {
        *("counted", "nets", "noted"),  # of this test
    }
    methods = {name for name in used if callable(getattr(plain, name, None))}
    assert methods - overrides.CALLED == set()
    assert {name for name in used - methods if hasattr(plain("plain"), name)} <= {
        *overrides.KEPT,
        *overrides.KEPT_BY_FACTORY,
        *(name for name in vars(plain) if name.isupper()),
    }


# Methods that are never called.


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    def found() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]

    return found


@pytest.mark.parametrize(
    ("older", "argument"),
    [
        ("on_network_message", "on_mesh_rx"),
        ("on_network_trace_message", "on_trace_rx"),
        ("on_network_spy_message", "on_spy_rx"),
    ],
)
@pytest.mark.parametrize("base", NETWORKED)
def test_a_method_that_is_no_longer_called_is_warned_of_once_for_each_class(
    older: str, argument: str, base: Any, warnings: Callable[[], list[str]]
) -> None:
    class Robot(base):  # type: ignore[misc]
        pass

    setattr(Robot, older, lambda self, *arguments: None)
    made(Robot)
    made(Robot)
    (warning,) = warnings()
    assert (
        warning == f"Robot.{older} is never called: give the constructor a function, {argument}=..."
    )

    class Child(Robot):
        pass

    made(Child)
    assert len(warnings()) == 2


@pytest.mark.parametrize("base", NETWORKED)
def test_other_classes_are_not_warned_of(base: Any, warnings: Callable[[], list[str]]) -> None:
    made(base)
    made(by_body(base, "on_message", lambda self: None))
    assert warnings() == []


@pytest.mark.parametrize("name", overrides.CALLBACKS)
@pytest.mark.parametrize("base", NETWORKED)
def test_a_method_that_has_the_name_of_a_callback_is_warned_of_once_for_each_class(
    name: str, base: Any, warnings: Callable[[], list[str]]
) -> None:
    robot = by_body(base, name, lambda self, *arguments: None)
    made(robot)
    made(robot)
    assert warnings() == [
        f"Robot.{name} is never called: give the constructor a function, {name}=self.{name}"
    ]
    made(type("Child", (robot,), {}))
    assert len(warnings()) == 2


@pytest.mark.parametrize("name", [*overrides.OLDER_CALLBACKS, *overrides.CALLBACKS])
def test_a_method_that_is_given_to_the_constructor_is_not_warned_of(
    name: str, warnings: Callable[[], list[str]]
) -> None:
    class Robot(NetworkedActiveObject):
        def __init__(self) -> None:
            argument = overrides.OLDER_CALLBACKS.get(name, name)
            super().__init__("robot", **ARGUMENTS, **{argument: getattr(self, name)})

    setattr(Robot, name, lambda self, *arguments: None)
    Robot()
    assert warnings() == []


def test_every_argument_that_takes_a_callback_is_known() -> None:
    arguments = inspect.signature(NetworkedActiveObject).parameters
    callbacks = [name for name in arguments if name.startswith("on_") and name != "on_full"]
    assert callbacks == list(overrides.CALLBACKS)


@pytest.mark.parametrize("name", overrides.CALLBACKS)
def test_a_value_that_is_no_method_is_not_warned_of(
    name: str, warnings: Callable[[], list[str]]
) -> None:
    made(by_body(NetworkedActiveObject, name, None))
    assert warnings() == []
