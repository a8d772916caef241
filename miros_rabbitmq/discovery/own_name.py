"""The address that a node announces for its own broker, if that was given by a name.

Others take no names from announcements (see `vetting`), so the node looks its own up and
announces the IP address. The name of a machine often leads to a loopback on that machine, as on
Debian (127.0.1.1 in ``/etc/hosts``): the machine's address on its LAN stands for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import IPv4Address

from ..exceptions import OutOfResources, SettingsError
from ..host_names import ip_of, is_loopback
from ..resolve import Target, look_up
from ..urls import Address

logger: logging.Logger = logging.getLogger(__name__)

LOOK_S, LOOK_FOR_FIRST_S = 60.0, 10.0
"""Seconds from one look-up to the next: the host may have moved; or there was no answer yet."""


class OwnName:
    """Knows the IP address of one name, as it was when it was last looked up. From any thread.

    Args:
        named: the broker; its host is a name.
        is_near: tells which addresses others will take. Of several, such a one is preferred.
        on_lan: returns this machine's address on its LAN.
    """

    def __init__(
        self, named: Address, is_near: Callable[[Address], bool], on_lan: Callable[[], str]
    ) -> None:
        self._named = named
        self._is_near = is_near
        self._on_lan = on_lan
        self._address: Address | None = None
        self._looked_s: float | None = None

    @property
    def address(self) -> Address | None:
        """The IP address and the port; `None` if there is none yet that others can use."""
        return self._address

    def keep_up(self, now_s: float) -> None:
        """Look the name up again if it is time to. Does not wait; for one thread.

        Args:
            now_s: the time of a clock that never goes back, in seconds.
        """
        pause_s = LOOK_FOR_FIRST_S if self._address is None else LOOK_S
        if self._looked_s is None or now_s - self._looked_s >= pause_s:
            self._looked_s = now_s
            look_up(self._named, self._take)

    def _take(self, found: list[Target] | OSError) -> None:
        if isinstance(found, OSError):
            return  # what was found before holds; connecting to the broker tells the reason
        usable: list[Address] = []
        for target in found:
            ip = ip_of(target.ip)
            if ip is None or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
                continue
            host = self._lan_host() if ip.is_loopback else str(ip)
            if host is not None:
                usable.append(Address(host, self._named.port))
        # IPv4 first, as nodes know the networks of this machine for IPv4 alone.
        usable.sort(key=lambda one: (not self._is_near(one), not _is_ipv4(one)))
        if usable:
            self._address = usable[0]

    def _lan_host(self) -> str | None:
        try:
            host = self._on_lan()
        except (SettingsError, OutOfResources) as error:
            logger.debug("%s is on this machine, whose address is unknown: %s", self._named, error)
            return None
        return None if is_loopback(host) else host


def _is_ipv4(address: Address) -> bool:
    return isinstance(ip_of(address.host), IPv4Address)
