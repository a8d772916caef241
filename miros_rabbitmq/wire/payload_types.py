"""The standard classes that a payload may contain, and how each is rebuilt from a pickle.

Where a pickle names one of these classes, the unpickler does not give it the class but a
`Rebuilder`. A rebuilder makes an object from just the arguments that our own writer uses, so a few
bytes cannot ask for gigabytes; it takes what that costs from the budget of the pickle first. It
gives out only objects that can be used: to hash, compare, print and copy them does not raise. It
takes no attributes, so a pickle cannot change a class.
"""

from __future__ import annotations

import array
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import pickle
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

from .pickle_cost import Budget


def check_date(one: datetime.date) -> None:
    """Raise a `ValueError` if it has a year, month or day that no date has.

    A date that is made of bytes has looked at little but the month.
    """
    datetime.date(one.year, one.month, one.day)


def check_time(one: datetime.time) -> None:
    """Raise a `ValueError` if it has an hour, minute, second or fraction that no time has."""
    datetime.time(one.hour, one.minute, one.second, one.microsecond)


def check_datetime(one: datetime.datetime) -> None:
    """Raise a `ValueError` if it has what no date or no time has."""
    check_date(one)
    datetime.time(one.hour, one.minute, one.second, one.microsecond)


def check_decimal(one: decimal.Decimal) -> None:
    """Raise `ClassRefused` for a signaling NaN: to hash or compare it raises."""
    if one.is_snan():
        raise ClassRefused("a signaling NaN cannot be hashed or compared: send Decimal('NaN')")


def check_counter(one: collections.Counter[Any]) -> None:
    """Raise `ClassRefused` if it counts with what has no order: to print it raises."""
    for count in one.values():
        if type(count) not in _COUNTS or _is_nan(count):
            raise ClassRefused(
                f"a Counter may count with {', '.join(cls.__name__ for cls in _COUNTS)}, and not "
                f"with {count!r:.99}: send dict(it)"
            )


def _is_nan(number: Any) -> bool:
    # To compare one of Decimal raises, with a signaling one and with any other NaN.
    is_decimal = isinstance(number, decimal.Decimal)
    return bool(number.is_nan() if is_decimal else number != number)


_COUNTS: tuple[type, ...] = (int, float, bool, fractions.Fraction, decimal.Decimal)

CHECKS: dict[type, Callable[[Any], None]] = {
    datetime.date: check_date,
    datetime.time: check_time,
    datetime.datetime: check_datetime,
    decimal.Decimal: check_decimal,
    collections.Counter: check_counter,
}
"""For some standard classes, what raises if an object of it cannot be used: the class makes such an
object from some arguments, or to hash, compare or print it raises."""


class _Form(NamedTuple):
    """What an object of one class may be rebuilt from, and what that costs."""

    shapes: tuple[tuple[type, ...], ...]
    """The types of the arguments."""
    memory: int = 0
    """What an empty object takes, in bytes, if that is more than 120."""
    cost: Callable[..., tuple[int, int]] | None = None
    """Gets the arguments, and returns the further steps and bytes for them."""


def _of_bytes(content: bytes = b"") -> tuple[int, int]:
    return len(content) >> 12, len(content)


def _of_members(members: list[Any]) -> tuple[int, int]:
    return len(members) >> 2, 110 * len(members)


def _of_counts(counts: dict[Any, Any]) -> tuple[int, int]:
    return len(counts), 110 * len(counts)


def _of_digits(digits: str) -> tuple[int, int]:
    return len(digits) >> 6, len(digits) >> 1


def _of_ratio(numerator: int, denominator: int) -> tuple[int, int]:
    # A fraction is reduced when it is made; this takes time with the product of the two lengths.
    return 8 + numerator.bit_length() * denominator.bit_length() // 20_000, 0


def _of_hex(digits: str) -> tuple[int, int]:
    return len(digits) >> 2, 0


_FORMS: dict[type, _Form] = {
    bytearray: _Form(((), (bytes,)), 0, _of_bytes),
    complex: _Form(((float, float),)),
    frozenset: _Form(((list,),), 240, _of_members),
    range: _Form(((int, int, int),)),
    set: _Form(((list,),), 240, _of_members),
    collections.Counter: _Form(((dict,),), 240, _of_counts),
    collections.OrderedDict: _Form(((),), 240),
    # A deque is empty at first; later opcodes append what it held.
    collections.deque: _Form(((), (tuple, int)), 800),
    datetime.date: _Form(((bytes,),)),
    datetime.datetime: _Form(((bytes,), (bytes, datetime.tzinfo))),
    datetime.time: _Form(((bytes,), (bytes, datetime.tzinfo))),
    datetime.timedelta: _Form(((int, int, int),)),
    datetime.timezone: _Form(((datetime.timedelta,), (datetime.timedelta, str))),
    decimal.Decimal: _Form(((str,),), 0, _of_digits),
    fractions.Fraction: _Form(((int, int),), 0, _of_ratio),
    uuid.UUID: _Form(((str,),), 0, _of_hex),
}

COSTLY = frozenset((set, frozenset, collections.Counter, fractions.Fraction))
"""The classes whose objects take time or memory beyond what the length of their opcodes tells."""

HARMLESS: tuple[type, ...] = tuple(_FORMS)
"""What a payload may contain besides None, bool, int, float, str, bytes, tuple, list and dict."""


def _with_fold(moment: Any) -> Any:
    # Protocol 3 drops the fold, but every Python 3 reads the form of protocol 4, which has it.
    return moment.__reduce_ex__(4) if moment.fold else NotImplemented


def _zone(zone: zoneinfo.ZoneInfo) -> Any:
    return NotImplemented if zone.key is None else (zoneinfo.ZoneInfo, (zone.key,))


OWN_FORMS: dict[type, Callable[[Any], Any]] = {
    # Versions of Python write these two differently.
    uuid.UUID: lambda one: (uuid.UUID, (one.hex,)),
    fractions.Fraction: lambda one: (fractions.Fraction, (one.numerator, one.denominator)),
    datetime.datetime: _with_fold,
    datetime.time: _with_fold,
    # Python writes a call of a function for these two, which have to be registered.
    array.array: lambda one: (array.array, (one.typecode, one.tolist())),
    zoneinfo.ZoneInfo: _zone,
}
"""For some standard classes, what our writer makes of an object: the class and the arguments, or
``NotImplemented`` to write it as Python does."""


def _member(one: enum.Enum) -> Any:
    return type(one), (one._value_,)


def own_form(cls: type) -> Callable[[Any], Any] | None:
    """Return what our writer makes of an object of a class; None to write it as Python does.

    A member of an enumeration is its class, called with its value, unless the class says otherwise.
    Python 3.11.2, which is that of Debian 12, would write a call of ``getattr``, and receivers
    refuse this.
    """
    if isinstance(cls, enum.EnumMeta) and cls not in copyreg.dispatch_table:
        usual: tuple[object, ...] = (enum.Enum.__reduce_ex__, enum.Flag.__reduce_ex__)
        if cls.__reduce_ex__ in usual:
            return _member
    return OWN_FORMS.get(cls)


class ClassRefused(pickle.PicklingError, pickle.UnpicklingError):
    """A payload or a pickle contains an object that is not allowed there."""


class Rebuilder:
    """Makes objects of one of these classes, in place of the class, while a pickle is loaded.

    Args:
        cls: the class.
        budget: pays for each object.
        collisions: gets what is to be hashed, and raises if too much of it has one hash.
    """

    __slots__ = ("_budget", "_check", "_cls", "_collisions", "_form")

    _budget: Budget
    _check: Callable[[Any], None] | None
    _cls: type
    _collisions: Callable[[Any], None] | None
    _form: _Form

    def __init__(
        self, cls: type, budget: Budget, collisions: Callable[[Any], None] | None = None
    ) -> None:
        for name, value in (
            ("_budget", budget),
            ("_check", CHECKS.get(cls)),
            ("_cls", cls),
            ("_collisions", collisions),
            ("_form", _FORMS[cls]),
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise ClassRefused(f"a pickle may not set attributes of {self._cls.__qualname__}")

    def __deepcopy__(self, _: object) -> Rebuilder:
        return self

    def __copy__(self) -> Rebuilder:
        return self

    def __call__(self, *arguments: Any) -> Any:
        """Make one object.

        Raises:
            ClassRefused: not from these arguments, or it could not be used.
            OpcodeRefused: it costs too much.
            Exception: what the class raises.
        """
        shapes, memory, cost = self._form
        for shape in shapes:
            if len(arguments) == len(shape) and all(map(isinstance, arguments, shape)):
                break
        else:
            raise ClassRefused(
                f"a {self._cls.__qualname__} may not be rebuilt from these arguments"
            )
        if cost is not None:
            steps, more = cost(*arguments)
            self._budget.take_steps(steps)
            memory += more
        if memory:
            self._budget.take_memory(memory)
        if self._collisions is not None:
            self._collisions(*arguments)
        made = self._cls(*arguments)
        if self._check is not None:
            self._check(made)
        return made
