"""What a node is told at its construction: one frozen object with every default and its unit.

Pure values; nothing here opens a socket or starts a thread. Values that cannot work are refused
here, at construction, with a message that says what would.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict

from ..exceptions import SettingsError
from ..limits import Limits
from ..urls import (
    DEFAULT_PORT,
    DEFAULT_TLS_PORT,
    Address,
    AmqpUrl,
    amqp_url,
    check_short_text,
    parse_address,
    require_text,
)
from ..wire.codec import Deserializer, Serializer
from ..wire.keys import Keys, check_keys
from .tls import tls_from_environment

if TYPE_CHECKING:
    from miros import Event

    from ..discovery.roster import PeersChanged

DEFAULT_ROUTING_KEY = "miros.mesh"
"""The mesh routing key of nodes that are given none."""

_PORT_OF_SCHEME: Any = None
"""Stands for the port that is usual with or without TLS, until that is known."""

MeshCallback = Callable[["Event"], None]
SnoopCallback = Callable[[str, str], None]
PeersCallback = Callable[["PeersChanged"], None]

_KEYWORD_ALIASES = {
    "mesh_encyption_key": "mesh_encryption_key",
    "trace_snoop_encryption_key": "snoop_trace_encryption_key",
    "spy_snoop_encryption_key": "snoop_spy_encryption_key",
}


_DURATIONS = {
    "start_timeout": "seconds",
    "transmit_timeout": "seconds",
    "rescan_interval": "seconds",
    "forget_after": "seconds",
    "time_out_in_minutes": "minutes",
}


class Extras(TypedDict, total=False):
    """The keyword-only arguments of the networked classes; `Settings` documents each."""

    rabbit_host: str | None
    rabbit_port: int
    rabbit_vhost: str
    addresses: Sequence[str] | None
    interface: str | None
    serializer: Serializer | None
    deserializer: Deserializer | None
    allowed_classes: Sequence[type]
    on_mesh_rx: MeshCallback | None
    on_trace_rx: SnoopCallback | None
    on_spy_rx: SnoopCallback | None
    on_peers_changed: PeersCallback | None
    tls: ssl.SSLContext | None
    durable: bool
    start_timeout: float
    transmit_timeout: float
    rescan_interval: float
    forget_after: float
    time_out_in_minutes: float
    accept_unknown_peers: bool
    max_age_s: float | None
    limits: Limits
    # Spellings of older documentation.
    mesh_encyption_key: Keys
    trace_snoop_encryption_key: Keys
    spy_snoop_encryption_key: Keys


@dataclass(frozen=True)
class Settings:
    """Everything a node is told at its construction, checked.

    Args:
        rabbit_user: the user name that every broker of the system takes.
        rabbit_password: its password; shown in no ``repr`` and no log.
        mesh_encryption_key: the Fernet key of the mesh, or a list of them.
        tx_routing_key: the routing key of what this node transmits.
        rx_routing_key: the pattern (``*`` a word, ``#`` any number of words) of what it hears;
            default ``tx_routing_key``. With neither, `DEFAULT_ROUTING_KEY` is both.
        snoop_spy_encryption_key: the key of the spy network; default the mesh key.
        snoop_trace_encryption_key: the key of the trace network; default the mesh key.
        rabbit_host: this node's own broker; default this machine's address on its LAN.
        rabbit_port: the port of every broker whose address names none; default 5672, or with TLS
            5671.
        rabbit_vhost: the virtual host, the same on every broker.
        addresses: the brokers' hosts, each ``host`` or ``host:port``. Given, the LAN is not
            searched; what the hosts file names, and nodes that are heard, come in addition.
        interface: the network interface whose LAN is searched; default that of the default route.
        serializer: turns the plain data of an envelope into bytes; default restricted pickle.
        deserializer: its inverse. The two are given together or not at all.
        allowed_classes: classes of one's own that a payload may contain.
        on_mesh_rx: called with each event that comes from the network, in place of the chart's
            ``post_fifo``. The callbacks for what is received run in the thread of a connection:
            they return soon.
        on_trace_rx: called with (sender, line) for each trace line of another chart, in place of
            printing.
        on_spy_rx: the same for spy lines.
        on_peers_changed: called with a `PeersChanged` when brokers were added or given up, in the
            thread of the discovery.
        tls: a context for ``amqps``; default one of ``RABBIT_TLS_CAFILE`` and its like in the
            environment (see `tls`). Without one, only the events themselves are encrypted.
        durable: events that this node transmits survive a restart of the brokers, at the price of
            their writing them to disk.
        start_timeout: seconds ``start_at`` waits for the own broker and the first discovery.
        transmit_timeout: seconds ``transmit`` waits for a connected broker whose backlog is full.
        rescan_interval: seconds between two searches for brokers; 0 searches once.
        forget_after: seconds after which a broker that is gone is given up, and what waits for it
            dropped: longer than a reboot or an update takes; 0 never gives one up. Without a
            ``rescan_interval`` none is, for nobody would look for it again.
        time_out_in_minutes: how long the cache of what was found on the LAN is valid; 0 forces a
            search at every start.
        accept_unknown_peers: brokers that are announced on the mesh, by nodes that hold its key,
            are added.
        max_age_s: seconds after which a message is refused, however it comes: the clocks of all
            nodes have to agree. Default any age.
        limits: sizes and times of the transport.

    Raises:
        SettingsError: a value that cannot work.
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
    rabbit_port: int = field(default=_PORT_OF_SCHEME, kw_only=True)
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
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)
    durable: bool = field(default=True, kw_only=True)
    start_timeout: float = field(default=5.0, kw_only=True)
    transmit_timeout: float = field(default=10.0, kw_only=True)
    rescan_interval: float = field(default=60.0, kw_only=True)
    forget_after: float = field(default=600.0, kw_only=True)
    time_out_in_minutes: float = field(default=30.0, kw_only=True)
    accept_unknown_peers: bool = field(default=True, kw_only=True)
    max_age_s: float | None = field(default=None, kw_only=True)
    limits: Limits = field(default_factory=Limits, kw_only=True)

    tx_key: str = field(init=False)
    """The routing key in force of what this node transmits."""
    rx_key: str = field(init=False)
    """The pattern in force of what this node hears."""
    mesh_keys: tuple[bytes, ...] = field(init=False, repr=False)
    """The checked keys of the mesh; the first encrypts. Likewise those of the snoops."""
    trace_keys: tuple[bytes, ...] = field(init=False, repr=False)
    spy_keys: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("rabbit_user", "rabbit_password", "rabbit_vhost"):
            require_text(name, getattr(self, name))
        for name in ("rabbit_host", "interface"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        if self.tls is None:
            self._settle("tls", tls_from_environment())
        elif not isinstance(self.tls, ssl.SSLContext):
            raise SettingsError(f"tls is an ssl.SSLContext, not a {type(self.tls).__name__}")
        self._settle_routing_keys()
        self._settle("mesh_keys", check_keys("mesh_encryption_key", self.mesh_encryption_key))
        for snoop in ("trace", "spy"):
            name = f"snoop_{snoop}_encryption_key"
            keys = getattr(self, name)
            checked = self.mesh_keys if keys is None else check_keys(name, keys)
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
        ):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise SettingsError(f"{name} is a function, not {value!r}")
        for name, unit in _DURATIONS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise SettingsError(f"{name} is a number of {unit}, 0 or more, not {value!r}")
        age_s = self.max_age_s
        if age_s is not None and (
            isinstance(age_s, bool) or not isinstance(age_s, (int, float)) or not age_s > 0
        ):
            raise SettingsError(f"max_age_s is a number of seconds above 0, or None, not {age_s!r}")
        classes = _as_tuple("allowed_classes", "classes", self.allowed_classes)
        if any(not isinstance(item, type) for item in classes):
            raise SettingsError("allowed_classes is a list of classes: put even one into [ ]")
        self._settle("allowed_classes", classes)
        if not isinstance(self.durable, bool):
            raise SettingsError(f"durable is True or False, not {self.durable!r}")
        if not isinstance(self.limits, Limits):
            raise SettingsError(f"limits is a Limits(...), not a {type(self.limits).__name__}")

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
        if any(word in ("*", "#") for word in tx.split(".")):
            raise SettingsError(
                f"tx_routing_key {tx!r} has a wildcard: wildcards belong into rx_routing_key"
            )
        self._settle("tx_key", tx)
        self._settle("rx_key", rx)

    def _settle_addresses(self) -> None:
        port = self.rabbit_port
        if port is _PORT_OF_SCHEME:
            port = DEFAULT_PORT if self.tls is None else DEFAULT_TLS_PORT
            self._settle("rabbit_port", port)
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise SettingsError(f"rabbit_port is a number of 1 to 65535, not {port!r}")
        if self.rabbit_host is not None:
            parse_address(self.rabbit_host, port)
        if self.addresses is not None:
            addresses = _as_tuple("addresses", "hosts", self.addresses)
            for address in addresses:
                parse_address(address, port)
            self._settle("addresses", addresses)


def settings_from(given: Mapping[str, Any], extras: Mapping[str, Any]) -> Settings:
    """Make settings of a constructor's arguments, whichever spelling of a keyword was used.

    Args:
        given: the contract's own arguments by their name; `None` means not given.
        extras: further keywords, some of them perhaps older spellings of the former.

    Raises:
        TypeError: a value was given twice, an argument is missing, or a keyword is unknown.
        SettingsError: a value that cannot work.
    """
    merged: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    spelled = {name: name for name in merged}
    known = {item.name for item in fields(Settings) if item.init}
    for keyword, value in extras.items():
        name = _KEYWORD_ALIASES.get(keyword, keyword)
        if name in merged:
            raise TypeError(f"{name} was given twice, as {spelled[name]} and as {keyword}")
        if name not in known:
            raise TypeError(f"unknown keyword {keyword}=; known are {', '.join(sorted(known))}")
        merged[name], spelled[name] = value, keyword
    for name in ("rabbit_user", "rabbit_password", "mesh_encryption_key"):
        if name not in merged:
            raise TypeError(f"the argument {name} is missing")
    return Settings(**merged)


def _as_tuple(name: str, items: str, value: object) -> tuple[Any, ...]:
    # A text, and a class such as an Enum, can be iterated over too; but that is never meant.
    if isinstance(value, (str, bytes, type)) or not isinstance(value, Iterable):
        raise SettingsError(f"{name} is a list of {items}: put even one into [ ]")
    return tuple(value)
