"""Checks that a subclass does not spoil the names that a networked chart needs to run.

A subclass may override any method and call the original. But a ``stop`` that is a flag cannot be
called, and an attribute ``queue`` of the subclass replaces the FIFO: such a chart would fail
somewhere inside miros, or when the program ends. The checks here raise an error that names the
attribute, as early as possible: when the class is made, when a chart is constructed, or when it
starts.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import NoReturn

from miros import Factory

from ..exceptions import MirosApiException

logger: logging.Logger = logging.getLogger(__name__)

CALLED = frozenset(
    {
        # By this package and its users.
        *("start_at", "stop", "transmit", "run_event", "next_rtc", "post_fifo"),
        # By miros, while a chart starts and runs.
        *("post_lifo", "dispatch", "init", "init_rtc", "top", "trans", "trans_"),
        *("queue_reflection", "register_live_spy_callback", "register_live_trace_callback"),
        *("live_spy_callback_default", "live_trace_callback_default"),
        *("trace_tuple_to_formatted_string", "signal_callback", "parent_callback"),
    }
)
"""Methods that a chart cannot start, run or stop without."""

KEPT = frozenset(
    {
        *("name", "queue", "locking_deque", "defer_queue", "thread"),
        *("activeobject_task_event", "fabric_task_event", "fabric", "writer"),
        *("posted_events_queue", "PostedEventThreadSpec", "PostedEvent", "TraceTuple"),
        *("state", "temp", "event", "state_name", "state_fn", "full", "rtc"),
        *("instrumented", "spied_on", "live_spy", "live_trace", "last_live_trace_datetime"),
        *("live_spy_callback", "live_trace_callback"),
    }
)
"""Attributes in which miros keeps the data of each chart."""

KEPT_BY_FACTORY = frozenset({"states"})
"""The same, only in a `miros.Factory`."""

NOT_REPLACED = frozenset(
    {
        *("queue", "locking_deque", "activeobject_task_event", "posted_events_queue"),
        *("state", "temp", "event", "full", "rtc", "defer_queue", "fabric", "writer"),
        *("PostedEventThreadSpec", "PostedEvent", "TraceTuple"),
    }
)
"""Attributes whose objects miros makes once for each chart, and uses from then on."""

CALLED_BACK = frozenset({"live_spy_callback", "live_trace_callback"})
"""Attributes that may be set to any function."""

NOT_BEFORE = NOT_REPLACED | {"thread"}
"""Attributes that the chart sets itself. A value that a subclass has put there before would be
lost."""

OLDER_CALLBACKS = {
    "on_network_message": "on_mesh_rx",
    "on_network_trace_message": "on_trace_rx",
    "on_network_spy_message": "on_spy_rx",
}
"""Methods that older releases called, and the arguments that have taken their place."""

CALLBACKS = (
    *("on_mesh_rx", "on_trace_rx", "on_spy_rx"),
    *("on_peers_changed", "on_delivery_problem", "on_error"),
)
"""Arguments that take a function. A method of such a name is not called by itself."""

_warned: weakref.WeakKeyDictionary[type, set[str]] = weakref.WeakKeyDictionary()
"""The methods that each class was warned of."""


def check_class(cls: type) -> None:
    """Check what a new subclass defines, itself or by a class that it mixes in.

    Raises:
        MirosApiException: a method was replaced by something that cannot be called, or an attribute
            of a chart by a method.
    """
    for name in CALLED:
        definer, value = _override(cls, name)
        if definer is not None and not _is_method(value):
            raise MirosApiException(
                f"{definer.__name__}.{name} is not a method, but a chart needs its {name}() to run "
                "and to stop: give the attribute another name"
            )
    for name in KEPT | KEPT_BY_FACTORY if issubclass(cls, Factory) else KEPT:
        definer, value = _override(cls, name)
        if definer is not None and _hides_or_blocks(value):
            raise MirosApiException(
                f"{definer.__name__}.{name} is a method or property, but each chart keeps data of "
                f"its own in an attribute {name}: give the method another name"
            )
    definer, _ = _override(cls, "nets")
    if definer is not None:
        raise MirosApiException(
            f"{definer.__name__}.nets hides the networks of the chart: give it another name"
        )


def check_new(chart: object) -> None:
    """Check what a constructor has set before it called the constructor of the chart.

    Raises:
        MirosApiException: the chart's constructor would overwrite it.
    """
    for name in sorted(NOT_BEFORE & vars(chart).keys()):
        raise MirosApiException(
            f"{type(chart).__name__} has set {name} before it called super().__init__(), which "
            f"keeps data of the chart there: give the attribute another name"
        )


def kept_by(chart: object) -> dict[str, object]:
    """The objects that a new chart has to keep, by the names of their attributes."""
    names = NOT_REPLACED | KEPT_BY_FACTORY if isinstance(chart, Factory) else NOT_REPLACED
    return {name: getattr(chart, name) for name in sorted(names)}


def refuse(chart: object, name: str) -> NoReturn:
    """Refuse to have an attribute of the chart set.

    Raises:
        MirosApiException: always.
    """
    raise MirosApiException(
        f"{type(chart).__name__} sets {name}, but that is the chart's own: give the attribute "
        "another name"
    )


def check_start(chart: object, kept: Mapping[str, object]) -> None:
    """Check what was set since the construction.

    Args:
        chart: which is to be started.
        kept: the attributes that have to be as they were, and their values.

    Raises:
        MirosApiException: a method was replaced by something that cannot be called, or an
            object in which the chart keeps its data was replaced.
    """
    for name, value in vars(chart).items():
        if name in CALLED | CALLED_BACK and not callable(value):
            raise MirosApiException(
                f"{type(chart).__name__} has set {name} to {value!r}, but a chart needs its "
                f"{name}() to run and to stop: give the attribute another name"
            )
    for name, value in kept.items():
        if getattr(chart, name, None) is not value:
            raise MirosApiException(
                f"{type(chart).__name__} has replaced or removed {name}, in which each chart keeps "
                "data of its own: give the attribute another name"
            )


def warn_of_uncalled_methods(cls: type, given: Mapping[str, object]) -> None:
    """Warn once for each class of methods that look like callbacks, but are never called.

    Args:
        cls: the class of a new chart.
        given: the arguments of its constructor. If a function is given for what a method looks
            like, there is no warning: the function may well be that method.
    """
    warned = _warned.setdefault(cls, set())
    for name, argument in [*OLDER_CALLBACKS.items(), *((each, each) for each in CALLBACKS)]:
        if (
            not callable(given[argument])
            and name not in warned
            and callable(getattr(cls, name, None))
        ):
            warned.add(name)
            logger.warning(
                "%s.%s is never called: give the constructor a function, %s=%s",
                cls.__name__,
                name,
                argument,
                f"self.{name}" if name == argument else "...",
            )


def _override(cls: type, name: str) -> tuple[type | None, object]:
    """The class that defines a name, `None` for those of miros and this package; and its value."""
    for each in cls.__mro__:
        if name in vars(each):
            is_ours = each.__module__.partition(".")[0] in ("miros", __name__.partition(".")[0])
            return (None if is_ours else each), vars(each)[name]
    return None, None


def _is_method(value: object) -> bool:
    # Some methods cannot be called before they are bound, such as a functools.partialmethod.
    return callable(value) or _is_bound_when_read(value)


def _hides_or_blocks(value: object) -> bool:
    """Whether the data of a chart would hide a method, or a property keep miros from setting it."""
    if isinstance(value, property):
        return value.fset is None
    return _is_bound_when_read(value)


def _is_bound_when_read(value: object) -> bool:
    kind = type(value)
    return hasattr(kind, "__get__") and not hasattr(kind, "__set__")
