"""The arguments of a node: one frozen object with every default, unit and meaning.

A value that cannot work is refused when the node is constructed, with a message that says what
would work. Nothing here opens a socket or starts a thread.

The networked classes take the same arguments. Their constructors spell out each one, since many
editors complete only what stands in the source; `taken` raises an error if one is missing there.
What each means stands here alone: `documented` copies it.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import ssl
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from ..amqp.io_choice import check_io_choice
from ..exceptions import SettingsError
from ..failures import ACTIONS, STOP, ErrorCallback
from ..hidden import hide
from ..limits import Limits
from ..problems import DeliveryProblem
from ..tls import tls_from_environment
from ..urls import (
    DEFAULT_PORT,
    DEFAULT_TLS_PORT,
    Address,
    AmqpUrl,
    address_texts,
    amqp_url,
    check_login,
    check_short_text,
    check_tls,
    parse_address,
    require_text,
)
from ..wire.keys import Keys, check_keys
from ..wording import a_value_of

if TYPE_CHECKING:
    from miros import Event

    from ..discovery.roster import PeersChanged
    from ..wire.codec import Deserializer, Serializer

DEFAULT_ROUTING_KEY = "miros.mesh"
"""The mesh routing key of a node whose user gives none."""

PORT_OF_SCHEME: Any = None
"""Stands for 5672, or for 5671 with TLS, until it is known whether TLS is used."""

DEFAULT_LIMITS = Limits()
"""The limits of a node whose user gives none."""

MeshCallback = Callable[["Event"], None]
SnoopCallback = Callable[[str, str], None]
PeersCallback = Callable[["PeersChanged"], None]
ProblemCallback = Callable[[DeliveryProblem], None]

_KEYWORD_ALIASES = {
    "mesh_encyption_key": "mesh_encryption_key",
    "trace_snoop_encryption_key": "snoop_trace_encryption_key",
    "spy_snoop_encryption_key": "snoop_spy_encryption_key",
}
"""Spellings of older documentation, and the arguments that they mean."""

_Class = TypeVar("_Class", bound=type)
_Constructor = TypeVar("_Constructor", bound=Callable[..., None])

_SECRETS = (
    "rabbit_password",
    "mesh_encryption_key",
    "snoop_spy_encryption_key",
    "snoop_trace_encryption_key",
)

_LIKE_A_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
"""A Fernet key, as ``Fernet.generate_key()`` makes it. A routing key has no ``=`` by chance."""

_DURATIONS = {
    "start_timeout": "seconds",
    "transmit_timeout": "seconds",
    "rescan_interval": "seconds",
    "forget_after": "seconds",
    "time_out_in_minutes": "minutes",
}


_ON_FULL = ("drop", "wait")


class OlderSpellings(TypedDict, total=False):
    """Keywords of older documentation, which the networked classes take as well."""

    mesh_encyption_key: Keys
    trace_snoop_encryption_key: Keys
    spy_snoop_encryption_key: Keys


@dataclass(frozen=True)
class Settings:
    """The arguments of a node, checked.

    Args:
        rabbit_user: the user name, which every broker of the system must know.
        rabbit_password: the user's password; no ``repr`` and no log shows it.
        mesh_encryption_key: the Fernet key of the mesh, or a list of keys: the first encrypts, all
            decrypt.
        tx_routing_key: the routing key of the events that this node transmits. Default:
            `DEFAULT_ROUTING_KEY`.
        rx_routing_key: the pattern of the events that it hears: ``*`` stands for one word, ``#``
            for any number of words. Default: ``tx_routing_key``.
        snoop_spy_encryption_key: the key, or keys, of the spy network. Default: those of the mesh.
        snoop_trace_encryption_key: the key, or keys, of the trace network. Default: those of the
            mesh.
        rabbit_host: the host of this node's own broker. Default: this machine's address on its LAN.
        rabbit_port: the port of every broker whose address has none. Default: 5672, with TLS 5671.
        rabbit_vhost: the virtual host, the same on every broker.
        addresses: the brokers, each as ``host`` or ``host:port``. If they are given, the LAN is not
            searched; brokers in the hosts file, and brokers that other nodes announce, are used as
            well. Default: search the LAN.
        interface: the network interface whose LAN is searched, and whose address is this machine's.
            Default: the one that most likely leads to a LAN.
        serializer: turns the plain data of an event into bytes. Default: restricted pickle.
        deserializer: turns the bytes back into the data. Give both, or neither. Default: restricted
            pickle.
        allowed_classes: classes of your own that a payload may contain.
        on_mesh_rx: called with each event from the network, one after the other, in a thread of its
            own. The event is acknowledged after it has returned. Default: the chart's
            ``post_fifo``.
        on_trace_rx: called with the name of another chart and its trace line, in a thread of its
            own. Default: the line is printed.
        on_spy_rx: called with the name of another chart and its spy line, in a thread of its own.
            Default: the line is printed.
        on_peers_changed: called with a `PeersChanged` after brokers were added or given up, in a
            thread of its own. Default: nothing is called.
        on_delivery_problem: called with a `DeliveryProblem` when events are late, missing, dropped
            or rejected, and when that ends; in a thread of its own. Default: nothing is called.
        on_error: what becomes of the chart when a handler or a callback of yours raises: ``"stop"``
            stops it, so that others see it go; ``"continue"`` goes on with the next event in the
            state in which it was; ``"restart"`` starts again from the initial state. Or a function
            that is called with a `Failure`, in the thread that has raised, and returns one of the
            three, or `None` for ``"stop"``. In any case the error is logged with its traceback.
        tls: an ``ssl.SSLContext`` that encrypts the connections; without it, only the events are
            encrypted. Default: what ``RABBIT_TLS_CAFILE`` and its companions in the environment
            describe, if they are set.
        durable: whether events that this node transmits survive a restart of the brokers, which
            write them to disk for that.
        start_timeout: how many seconds ``start_at`` waits for the own broker and for the first
            search.
        transmit_timeout: how many seconds ``transmit`` waits for brokers whose backlog is full.
        on_full: what happens when the backlog for a broker is full that is slower than the others:
            ``"drop"`` drops its oldest events, which are counted; ``"wait"`` makes ``transmit``
            wait, and so holds up the others.
        rescan_interval: seconds between two searches for brokers; 0 searches once.
        forget_after: seconds after which a broker that is gone is given up, and the events that
            wait for it are dropped. Choose more than a reboot or an update takes. 0, and a
            ``rescan_interval`` of 0, never give one up.
        time_out_in_minutes: how many minutes the cached result of a search of the LAN is valid; 0
            searches at every start.
        accept_unknown_peers: whether brokers are used that other nodes, which hold the mesh key,
            announce on the mesh.
        max_age_s: seconds after which a message is too old to be accepted. The clocks of all nodes
            must agree. Default: messages of any age are accepted.
        limits: sizes and times of the transport.

    Raises:
        SettingsError: a value cannot work.
        MalformedKey: an encryption key is not a Fernet key.
    """

    rabbit_user: str
    rabbit_password: str = field(repr=False)
    mesh_encryption_key: Keys = field(repr=False)
    tx_routing_key: str | None = None
    rx_routing_key: str | None = None
    snoop_spy_encryption_key: Keys | None = field(default=None, repr=False)
    snoop_trace_encryption_key: Keys | None = field(default=None, repr=False)
    rabbit_host: str | None = field(default=None, kw_only=True)
    rabbit_port: int = field(default=PORT_OF_SCHEME, kw_only=True)
    rabbit_vhost: str = field(default="/", kw_only=True)
    addresses: Sequence[str] | None = field(default=None, kw_only=True)
    interface: str | None = field(default=None, kw_only=True)
    serializer: Serializer | None = field(default=None, kw_only=True)
    deserializer: Deserializer | None = field(default=None, kw_only=True)
    allowed_classes: Sequence[type] = field(default=(), kw_only=True)
    on_mesh_rx: MeshCallback | None = field(default=None, kw_only=True)
    on_trace_rx: SnoopCallback | None = field(default=None, kw_only=True)
    on_spy_rx: SnoopCallback | None = field(default=None, kw_only=True)
    on_peers_changed: PeersCallback | None = field(default=None, kw_only=True)
    on_delivery_problem: ProblemCallback | None = field(default=None, kw_only=True)
    on_error: str | ErrorCallback = field(default=STOP, kw_only=True)
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)
    durable: bool = field(default=True, kw_only=True)
    start_timeout: float = field(default=5.0, kw_only=True)
    transmit_timeout: float = field(default=10.0, kw_only=True)
    on_full: str = field(default="drop", kw_only=True)
    rescan_interval: float = field(default=60.0, kw_only=True)
    forget_after: float = field(default=600.0, kw_only=True)
    time_out_in_minutes: float = field(default=30.0, kw_only=True)
    accept_unknown_peers: bool = field(default=True, kw_only=True)
    max_age_s: float | None = field(default=None, kw_only=True)
    limits: Limits = field(default=DEFAULT_LIMITS, kw_only=True)

    tx_key: str = field(init=False)
    """The routing key of the events that this node transmits, after defaults."""
    rx_key: str = field(init=False)
    """The pattern of the events that this node hears, after defaults."""
    mesh_keys: tuple[bytes, ...] = field(init=False, repr=False)
    """The checked keys of the mesh; the first encrypts."""
    trace_keys: tuple[bytes, ...] = field(init=False, repr=False)
    """The same for the trace network."""
    spy_keys: tuple[bytes, ...] = field(init=False, repr=False)
    """The same for the spy network."""

    def __post_init__(self) -> None:
        check_login(self.rabbit_user, self.rabbit_password, self.rabbit_vhost)
        for name in _SECRETS:
            self._settle(name, hide(getattr(self, name)))
        for name in ("rabbit_host", "interface"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        if self.tls is None:
            self._settle("tls", tls_from_environment())
        check_tls(self.tls)
        check_io_choice()
        self._settle_routing_keys()
        self._settle("mesh_keys", hide(check_keys("mesh_encryption_key", self.mesh_encryption_key)))
        for snoop in ("trace", "spy"):
            name = f"snoop_{snoop}_encryption_key"
            keys = getattr(self, name)
            checked = self.mesh_keys if keys is None else hide(check_keys(name, keys))
            self._settle(f"{snoop}_keys", checked)
        self._settle_addresses()
        if (self.serializer is None) != (self.deserializer is None):
            raise SettingsError("give both a serializer and a deserializer, or neither")
        for name in (
            "serializer",
            "deserializer",
            "on_mesh_rx",
            "on_trace_rx",
            "on_spy_rx",
            "on_peers_changed",
            "on_delivery_problem",
        ):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise SettingsError(f"{name} must be a function, not {value!r}")
        for name, unit in _DURATIONS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise SettingsError(f"{name} must be a number of {unit}, 0 or more, not {value!r}")
        age_s = self.max_age_s
        if age_s is not None and (
            isinstance(age_s, bool) or not isinstance(age_s, (int, float)) or not age_s > 0
        ):
            raise SettingsError(
                f"max_age_s must be a number of seconds above 0, or None, not {age_s!r}"
            )
        classes = _as_tuple("allowed_classes", "classes", self.allowed_classes)
        if any(not isinstance(item, type) for item in classes):
            raise SettingsError("allowed_classes must be a list of classes: put even one into [ ]")
        self._settle("allowed_classes", classes)
        if self.on_full not in _ON_FULL:
            raise SettingsError(f"on_full must be 'drop' or 'wait', not {self.on_full!r}")
        if self.on_error not in ACTIONS and not callable(self.on_error):
            raise SettingsError(
                f"on_error must be one of {', '.join(map(repr, ACTIONS))}, or a function that "
                f"returns one of them, not {self.on_error!r}"
            )
        for name in ("durable", "accept_unknown_peers"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                # A text such as "no" or "false" would mean True.
                raise SettingsError(f"{name} must be True or False, not {value!r}")
        if not isinstance(self.limits, Limits):
            raise SettingsError(f"limits must be a Limits(...), not {a_value_of(self.limits)}")

    def url(self, address: Address) -> AmqpUrl:
        """The URL of the broker at an address, with this node's user, password and vhost."""
        return amqp_url(
            self.rabbit_user,
            self.rabbit_password,
            address,
            self.rabbit_vhost,
            tls=self.tls is not None,
        )

    def _settle(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _settle_routing_keys(self) -> None:
        tx = DEFAULT_ROUTING_KEY if self.tx_routing_key is None else self.tx_routing_key
        rx = tx if self.rx_routing_key is None else self.rx_routing_key
        for name, key in (("tx_routing_key", tx), ("rx_routing_key", rx)):
            check_short_text(name, key)
            if _LIKE_A_KEY.fullmatch(key):
                raise SettingsError(
                    f"{name} looks like an encryption key, which everybody could read there: are "
                    "the arguments in the right order? (rabbit_user, rabbit_password, "
                    "mesh_encryption_key, tx_routing_key, rx_routing_key)"
                )
        if any(word in ("*", "#") for word in tx.split(".")):
            raise SettingsError(
                f"tx_routing_key {tx!r} has a wildcard: only rx_routing_key may have one"
            )
        self._settle("tx_key", tx)
        self._settle("rx_key", rx)

    def _settle_addresses(self) -> None:
        port = self.rabbit_port
        if port is PORT_OF_SCHEME:
            port = DEFAULT_PORT if self.tls is None else DEFAULT_TLS_PORT
            self._settle("rabbit_port", port)
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise SettingsError(f"rabbit_port must be a number of 1 to 65535, not {port!r}")
        if self.rabbit_host is not None:
            parse_address(self.rabbit_host, port)
        if self.addresses is not None:
            self._settle("addresses", address_texts(self.addresses, port))


def taken(local: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments of `Settings` from the local variables of a constructor.

    Raises:
        KeyError: the constructor lacks one.
    """
    return {each.name: local[each.name] for each in fields(Settings) if each.init}


def settings_from(given: Mapping[str, Any], extras: Mapping[str, Any]) -> Settings:
    """Make settings from a constructor's arguments, in whichever spelling they were given.

    Args:
        given: the arguments that the constructor spells out, by name. Of those that may be given by
            position, `None` means not given.
        extras: all other keywords. An older spelling of an argument in ``given`` may be among them.

    Raises:
        TypeError: a value was given twice, an argument is missing, or a keyword is unknown.
        SettingsError: a value cannot work.
    """
    by_keyword = {item.name for item in fields(Settings) if item.kw_only}
    merged: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None or name in by_keyword
    }
    spelled = {name: name for name in merged}
    known = {item.name for item in fields(Settings) if item.init}
    for keyword, value in extras.items():
        name = _KEYWORD_ALIASES.get(keyword, keyword)
        if name in merged:
            raise TypeError(f"{name} was given twice, as {spelled[name]} and as {keyword}")
        if name not in known:
            near = difflib.get_close_matches(keyword, known, 1)
            guess = f" (did you mean {near[0]}=?)" if near else ""
            names = ", ".join(sorted(known))
            raise TypeError(f"unknown keyword {keyword}={guess}; known are {names}")
        merged[name], spelled[name] = value, keyword
    for name in ("rabbit_user", "rabbit_password", "mesh_encryption_key"):
        if name not in merged:
            raise TypeError(f"the argument {name} is missing")
    return Settings(**merged)


def without_older_spellings(constructor: _Constructor) -> _Constructor:
    """Leave the keywords behind ``**older`` out of the signature that `help` shows.

    This does not change the call: older spellings are accepted.
    """
    signature = inspect.signature(constructor)
    named = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    shown = signature.replace(parameters=named)
    constructor.__signature__ = shown  # type: ignore[attr-defined]  # inspect looks for it
    return constructor


def documented(cls: _Class) -> _Class:
    """Put the meaning of each argument into a class's docstring, in place of its line ``...:``."""
    if cls.__doc__ is not None:  # python -OO removes docstrings
        before, mark, after = inspect.cleandoc(cls.__doc__).partition("    ...:")
        assert mark, f"the docstring of {cls.__name__} has no line ...:"
        cls.__doc__ = before + _argument_text() + "\n" + after.partition("\n")[2]
    return cls


@functools.cache  # for all the classes
def _argument_text() -> str:
    """The arguments as `Settings` documents them, each with its default."""
    return "\n".join(_argument_lines())


def _argument_lines() -> Iterator[str]:
    text = inspect.cleandoc(Settings.__doc__ or "")
    meanings = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))
    for each in fields(Settings):
        if each.init:
            words = [f"{each.name}:", *meanings[each.name].split()]
            default = each.default
            if "Default:" not in words and default is not MISSING:
                words += ["Default:", f"``{_shown(default)}``."]
            yield textwrap.fill(
                " ".join(words), 96, initial_indent=" " * 4, subsequent_indent=" " * 8
            )


def _shown(default: object) -> str:
    return f"{Limits.__name__}()" if isinstance(default, Limits) else repr(default)


def _as_tuple(name: str, items: str, value: object) -> tuple[Any, ...]:
    # A text or an Enum class can be iterated over, too, but is never meant as a list.
    if isinstance(value, (str, bytes, type)) or not isinstance(value, Iterable):
        raise SettingsError(f"{name} must be a list of {items}: put even one into [ ]")
    return tuple(value)
