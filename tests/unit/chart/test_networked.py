"""The help of the two classes of charts, and their older spellings; without a network."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import pydoc
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import (
    MirosApiException,
    MirosNets,
    NetworkedActiveObject,
    NetworkedFactory,
    Settings,
)
from miros_rabbitmq.chart import networked
from miros_rabbitmq.nets.chart_side import ChartSide
from tests.helpers import scaled, wait_until

ROOT = Path(__file__).parents[3]
KEY = base64.urlsafe_b64encode(bytes(range(32)))
OTHER_KEY = base64.urlsafe_b64encode(bytes(32))
NETWORKED = [NetworkedActiveObject, NetworkedFactory]
OLDER = {
    "mesh_encyption_key": "mesh_encryption_key",
    "trace_snoop_encryption_key": "snoop_trace_encryption_key",
    "spy_snoop_encryption_key": "snoop_spy_encryption_key",
}


def arguments_of_settings() -> list[dataclasses.Field[Any]]:
    return [each for each in dataclasses.fields(Settings) if each.init]


def default_of(argument: dataclasses.Field[Any]) -> Any:
    if argument.default_factory is not dataclasses.MISSING:
        return argument.default_factory()
    return argument.default


# Help.


@pytest.mark.parametrize("cls", NETWORKED)
def test_the_signature_has_every_argument_with_the_default_of_settings(cls: type) -> None:
    parameters = dict(inspect.signature(cls).parameters)
    assert parameters.pop("name").default is inspect.Parameter.empty
    assert list(parameters) == [each.name for each in arguments_of_settings()]
    for each in arguments_of_settings():
        shown = parameters[each.name]
        if each.name == "mesh_encryption_key":
            assert shown.default is None, "its older spelling may be given instead"
        elif default_of(each) is dataclasses.MISSING:
            assert shown.default is inspect.Parameter.empty
        else:
            assert shown.default == default_of(each)
        assert str(shown.annotation).removesuffix(" | None") == str(each.type).removesuffix(
            " | None"
        )
        assert (shown.kind is shown.KEYWORD_ONLY) == each.kw_only


@pytest.mark.parametrize("cls", NETWORKED)
def test_help_says_what_every_argument_means_and_its_default(cls: type) -> None:
    text = pydoc.plain(pydoc.render_doc(cls))
    meanings = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    for each in arguments_of_settings():
        (line,) = re.findall(rf"^    {each.name}: .+", meanings, re.MULTILINE)
        assert text.count(line) == 1
        if each.default not in (None, dataclasses.MISSING):
            assert f"Default: ``{each.default!r}``." in " ".join(meanings.split())
    assert "**older" not in text
    assert max(map(len, (cls.__doc__ or "").splitlines())) <= 100


@pytest.mark.parametrize("cls", NETWORKED)
def test_each_class_has_its_own_docstring(cls: type) -> None:
    text = vars(cls)["__doc__"]
    assert text.startswith("A `miros.")
    assert f"chart = {cls.__name__}(" in text
    assert "\nRaises:\n" in text
    assert "...: " not in text, "the mark was replaced"


def test_a_subclass_with_a_constructor_of_its_own_shows_its_own_arguments() -> None:
    class Robot(NetworkedActiveObject):
        def __init__(self, speed: int) -> None:
            super().__init__("robot", "user", "password", KEY)

    class Plain(NetworkedActiveObject):
        pass

    assert list(inspect.signature(Robot).parameters) == ["speed"]
    assert inspect.signature(Plain) == inspect.signature(NetworkedActiveObject)


def test_the_classes_can_be_used_without_docstrings() -> None:
    program = "import miros_rabbitmq; print(miros_rabbitmq.NetworkedFactory.__doc__)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-OO", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=scaled(60),
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_no_class_inherits_from_others_of_the_package_by_more_than_one_step() -> None:
    for cls in NETWORKED:
        ours = [each for each in cls.__mro__ if each.__module__.startswith("miros_rabbitmq")]
        assert ours[0] is cls
        for each in ours[1:]:
            assert not any(base.__module__.startswith("miros_rabbitmq") for base in each.__bases__)


# Older spellings.


@pytest.mark.parametrize("cls", NETWORKED)
@pytest.mark.parametrize(("older", "name"), OLDER.items())
def test_an_older_spelling_means_the_same(older: str, name: str, cls: Any) -> None:
    keys = {"mesh_encryption_key": KEY, older: OTHER_KEY}
    if name == "mesh_encryption_key":
        del keys[name]
    chart = cls("chart", "user", "password", **keys)
    assert getattr(chart.nets.settings, name) == OTHER_KEY


@pytest.mark.parametrize("cls", NETWORKED)
@pytest.mark.parametrize(("older", "name"), OLDER.items())
def test_a_value_given_in_both_spellings_is_a_type_error(older: str, name: str, cls: Any) -> None:
    keys = {"mesh_encryption_key": KEY, name: KEY, older: KEY}
    with pytest.raises(TypeError, match=f"^{name} was given twice, as {name} and as {older}$"):
        cls("chart", "user", "password", **keys)


@pytest.mark.parametrize("cls", NETWORKED)
def test_the_arguments_by_position_are_in_their_order(cls: Any) -> None:
    chart = cls("chart", "user", "password", KEY, "tx", "rx", OTHER_KEY, [KEY, OTHER_KEY])
    settings = chart.nets.settings
    assert (settings.tx_key, settings.rx_key) == ("tx", "rx")
    assert settings.snoop_spy_encryption_key == OTHER_KEY
    assert settings.snoop_trace_encryption_key == [KEY, OTHER_KEY]


# Mistakes.


@pytest.mark.parametrize("cls", NETWORKED)
@pytest.mark.parametrize("state", ["holding", None])
def test_what_is_no_state_is_refused_before_anything_starts(cls: Any, state: Any) -> None:
    chart = cls("chart", "user", "password", KEY, rabbit_host="127.0.0.2", addresses=[])
    chart.nets.start = lambda: pytest.fail("it has started the networks")
    with pytest.raises(MirosApiException, match=f"takes a state.*not a {type(state).__name__}"):
        chart.start_at(state)
    chart.nets.start = lambda: None
    chart.start_at(holding)
    chart.stop()


@pytest.mark.parametrize("cls", NETWORKED)
def test_a_chart_lives_on_when_what_is_no_event_was_posted(cls: Any) -> None:
    chart = cls("chart", "user", "password", KEY, rabbit_host="127.0.0.2", addresses=[])
    chart.nets.start = lambda: None
    chart.start_at(holding)
    gate = threading.Event()
    gate.set()
    try:
        for post in (chart.post_fifo, chart.post_lifo):
            with pytest.raises(MirosApiException, match="take a miros Event, not a str"):
                post("HOLD")
        chart.post_fifo(Event(signal=signals.HOLD, payload=gate))
        wait_until(lambda: "HOLD:holding:HOOK" in chart.spy())
        assert chart.failure is None
    finally:
        chart.stop()


# Room for events from the network.


@spy_on
def holding(chart: Any, e: Event) -> Any:
    if e.signal == signals.HOLD:
        e.payload.wait(scaled(30))
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


@pytest.mark.parametrize("cls", NETWORKED)
def test_a_chart_has_room_for_events_while_it_has_a_thread_and_free_places(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Callable[[], int]] = []

    def make_nets(*arguments: Any, chart_side: ChartSide, **keywords: Any) -> MirosNets:
        assert chart_side.room is not None
        given.append(chart_side.room)
        return MirosNets(*arguments, chart_side=chart_side, **keywords)

    monkeypatch.setattr(networked, "MirosNets", make_nets)
    chart = cls("chart", "user", "password", KEY, rabbit_host="127.0.0.2", addresses=[])
    (room,) = given
    assert room() == 0
    chart.nets.start = lambda: None
    chart.start_at(holding)
    gate = threading.Event()
    most = chart.nets.settings.limits.fifo_remote_events
    try:
        chart.post_fifo(Event(signal=signals.HOLD, payload=gate))
        wait_until(lambda: room() == most)
        for _ in range(3):
            chart.post_fifo(Event(signal=signals.NEWS))
        assert room() == most - 3
    finally:
        gate.set()
        chart.stop()
    assert room() == 0
