"""MirosNets: the three topic networks of one statechart, and what a chart does with them.

The mesh carries events and is always on. The two snoops carry instrumentation lines and are
enabled one by one, at any time. What a chart transmits goes to every broker; what it hears comes
from its own. How they are opened, joined to brokers and ended is told in `wiring`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from miros import Event

from ..discovery.lan import LocalAreaNetwork
from ..exceptions import MessageRejected, MirosApiException, PayloadRefused
from ..urls import AmqpUrl
from ..wire.envelope import Envelope
from ..wire.keys import Keys
from .node import Phase, WiredNets
from .settings import Extras, settings_from
from .signal_names import admit_name
from .snoops import Snoop
from .stats import NetsStats

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MirosNets(WiredNets):
    """The networks of one statechart, or of any object with a name and a FIFO.

    Nothing touches the network before `start`. Every method may be called from any thread.

    Args:
        miros_object: has a text ``name`` and a method ``post_fifo(event)``, which is called with
            each event from the network unless ``on_mesh_rx`` is given.
        rabbit_user: see `Settings` for this and all that follow.
        room: how many events ``miros_object`` can take now; default any number.

    Raises:
        MirosApiException: ``miros_object`` lacks something.
        SettingsError: a value that cannot work.
        TypeError: a value was given twice, or a keyword is unknown.
    """

    def __init__(
        self,
        miros_object: Any,
        rabbit_user: str,
        rabbit_password: str,
        mesh_encryption_key: Keys | None = None,
        tx_routing_key: str | None = None,
        rx_routing_key: str | None = None,
        snoop_spy_encryption_key: Keys | None = None,
        snoop_trace_encryption_key: Keys | None = None,
        *,
        room: Callable[[], int] | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        _check_miros_object(miros_object)
        settings = settings_from(
            {
                "rabbit_user": rabbit_user,
                "rabbit_password": rabbit_password,
                "mesh_encryption_key": mesh_encryption_key,
                "tx_routing_key": tx_routing_key,
                "rx_routing_key": rx_routing_key,
                "snoop_spy_encryption_key": snoop_spy_encryption_key,
                "snoop_trace_encryption_key": snoop_trace_encryption_key,
            },
            extras,
        )
        super().__init__(miros_object, settings, room=room if settings.on_mesh_rx is None else None)
        self._deliver = settings.on_mesh_rx or miros_object.post_fifo

    # Events.

    def transmit(self, event: Event) -> None:
        """Send an event to every chart whose pattern matches this node's ``tx_routing_key``.

        Returns when the event is serialized, encrypted and in the FIFO of every broker's
        publisher. Waits where a connected broker's FIFO is full, at most ``transmit_timeout``.

        Raises:
            MirosApiException: this is not an event.
            PayloadRefused: it cannot be serialized, or its receivers would refuse it.
            BackPressure: a connected broker took nothing for ``transmit_timeout``.
            NetworkStopped: the networks do not run, or belong to the parent process.
        """
        if not isinstance(event, Event):
            raise MirosApiException(f"transmit takes a miros Event, not a {type(event).__name__}")
        self._check_running()
        name = event.signal_name
        try:
            self._mesh.transmit((name, event.payload), self.settings.transmit_timeout)
        except MessageRejected as error:
            raise PayloadRefused(f"its receivers would reject the event: {error}") from error
        except PayloadRefused as error:
            raise PayloadRefused(f"the event {name} {error}") from error.__cause__

    def _receive(self, envelope: Envelope) -> None:
        """Take an event from the network; in the mesh consumer's thread."""
        name, payload = envelope.body
        # `_admit` has registered it. miros compares names by identity when it cancels.
        self._deliver(Event(signal=sys.intern(name), payload=payload))

    def _admit(self, envelope: Envelope) -> None:
        """Reject an event whose signal is one too many for this process."""
        admit_name(envelope.body[0], self.settings.limits.remote_signals)

    # Keys.

    def change_mesh_encryption_key(self, keys: Keys) -> None:
        """Use another key, or a list of them, from the next event on; no event is lost.

        To rotate: add the new key behind the old on every node, then put it first on every node,
        then remove the old one from every node. Snoops without keys of their own follow.

        Raises:
            MalformedKey: a key is not one; nothing was changed.
        """
        self._change_keys(mesh_encryption_key=keys)

    def change_snoop_trace_encryption_key(self, keys: Keys) -> None:
        """The same for the trace network, which has keys of its own from then on."""
        self._change_keys(snoop_trace_encryption_key=keys)

    def change_snoop_spy_encryption_key(self, keys: Keys) -> None:
        """The same for the spy network."""
        self._change_keys(snoop_spy_encryption_key=keys)

    def _change_keys(self, **keys: Keys) -> None:
        with self._lifecycle:
            settings = replace(self.settings, **keys)  # type: ignore[arg-type]
            self.settings = settings
            self._mesh.change_keys(settings.mesh_keys)
            self.snoops.trace.change_keys(settings.trace_keys)
            self.snoops.spy.change_keys(settings.spy_keys)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the brokers have confirmed every event transmitted so far.

        Returns:
            whether all brokers that were ever reached have, within ``timeout`` seconds; default
            ``transmit_timeout``.
        """
        return self._mesh.flush(timeout)

    def wait_for_peers(self, n: int, timeout: float) -> bool:
        """Wait until events can be sent to ``n`` brokers besides the own one.

        Returns:
            whether that is so, within ``timeout`` seconds.
        """
        with self._peers_changed:
            return self._peers_changed.wait_for(lambda: self._connected_peers() >= n, timeout)

    def stats(self) -> NetsStats:
        """The counters of the three networks, since `start`."""
        return self._final or self._count()

    # Places.

    @property
    def lan(self) -> LocalAreaNetwork:
        """The local network; searched on first use, unless ``addresses`` were given."""
        return self._membership.lan

    @property
    def this_url(self) -> AmqpUrl:
        """The URL of the own broker."""
        return self._membership.scout.this.url

    @property
    def other_urls(self) -> list[AmqpUrl]:
        """The URLs of the other brokers that can be used; looked for on first use."""
        return self._membership.scout.other.urls

    # Snoops.

    def enable_snoop_trace(self, *, colour: bool = True) -> None:
        """Show and send state transitions, and show those of others; at once or from `start` on."""
        self._enable(self.snoops.trace, colour)

    def enable_snoop_spy(self, *, colour: bool = True) -> None:
        """The same for spy lines."""
        self._enable(self.snoops.spy, colour)

    def disable_snoop_trace(self) -> None:
        """Neither show nor send state transitions any more; returns at once."""
        with self._lifecycle:
            self.snoops.trace.disable()

    def disable_snoop_spy(self) -> None:
        """The same for spy lines."""
        with self._lifecycle:
            self.snoops.spy.disable()

    def _enable(self, snoop: Snoop, colour: bool) -> None:
        with self._lifecycle:
            snoop.enable(colour=colour)
            if self._phase is Phase.RUNNING:
                self._open_snoops()


def _check_miros_object(miros_object: Any) -> None:
    name = getattr(miros_object, "name", None)
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise MirosApiException(
            f"a networked object has a name of 1 to 255 characters; this one's is {name!r}"
        )
    if not callable(getattr(miros_object, "post_fifo", None)):
        raise MirosApiException(f"{name} has no method post_fifo to take events from the network")
