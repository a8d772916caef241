"""What the log says of the brokers that a node looks for: each thing once, until it changes.

Brokers are probed again and again, with the same result. Others can announce ever new ones, and
pose as any number. So this object remembers what was said, and says only so much in a minute. It
decides nothing; `membership` tells it what has happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from ..exceptions import BrokerError, SettingsError
from ..logs import RelayedLogger
from ..said_before import said_before
from ..urls import Address
from .outcome import ProbeOutcome, ProbeResult
from .places import Kind
from .roster import PeerSource

logger: RelayedLogger = RelayedLogger(__name__)

GETS_NONE = "a node whose events are heard here gets none"
"""How a warning says that the announced broker of another node cannot be used."""

_LIMITS = {Kind.FOUND: "Limits.lan_peers", Kind.ANNOUNCED: "Limits.unknown_peers"}

_MOST_USELESS, _MINUTE_S = 16, 60.0
"""Of so many announced brokers in a minute, the log says that they cannot be used."""


class Answered(Protocol):
    """Knows what brokers have answered; see `answers.Answers`."""

    def claim(self, fault: BrokerError, who: str, /) -> bool:
        """Tell whether to say a fault, which is then said."""
        ...

    def forget(self, who: str, /) -> bool:
        """Note that the trouble of somebody is over."""
        ...


class Standing(NamedTuple):
    """What a broker is to the node that has probed it."""

    source: PeerSource | None
    is_own: bool = False
    is_member: bool = False
    is_lasting: bool = False
    """It is announced again and again."""


class PeerReports:
    """What a lookout says of brokers. For one thread, but for `hears_loopback`.

    Args:
        name: the lookout's, for the log.
        answers: knows what brokers have answered to its nodes, so that nothing is said twice.
        clock: returns seconds that never go back.
    """

    def __init__(
        self, name: str, answers: Answered, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._answers = answers
        self._clock = clock
        self._outcomes: dict[Address, ProbeOutcome] = {}
        self._of_lan = ""
        self._of_own = ""
        self._useless_s: list[float] = []
        self._left_out: dict[Kind, int] = {}
        self._crowded_out = 0
        self._has_heard_loopback = False

    def lan_fails(self, error: SettingsError) -> None:
        """Say that the LAN cannot be searched."""
        if self._of_lan != str(error):
            logger.warning("%s: the LAN cannot be searched: %s", self._name, error)
        self._of_lan = str(error)

    def lan_works(self) -> None:
        """Note that the LAN was searched."""
        self._of_lan = ""

    def own_stays(self, text: str) -> bool:
        """Say why the own broker is not looked for elsewhere; returns whether that is news."""
        is_news, self._of_own = self._of_own != text, text
        if is_news:
            logger.warning("%s: %s", self._name, text)
        return is_news

    def own_moved(self, text: str) -> None:
        """Say where the own broker is now."""
        self._of_own = ""
        logger.warning("%s: %s", self._name, text)

    def hears_loopback(self, address: Address) -> None:
        """Say once that another machine announces an address that means itself. Any thread."""
        if not self._has_heard_loopback:
            self._has_heard_loopback = True
            logger.info(
                "%s: another machine announces its broker as %s, which leads to no other machine: "
                "unless the broker is known here, leave out rabbit_host= there",
                self._name,
                address,
            )

    def left_out(self, counts: Mapping[Kind, int], places: Mapping[Kind, int]) -> None:
        """Say how many brokers work and have no place.

        Args:
            counts: how many of each kind.
            places: how many places each kind has.
        """
        for kind, count in counts.items():
            said = self._left_out.get(kind, 0)
            # A number that goes up and down is no news, as they take turns.
            if bool(count) == bool(said) and count <= 2 * said:
                continue
            self._left_out[kind] = count
            if not count:
                logger.info("%s: no broker %s is left out any more", self._name, kind.value)
                continue
            logger.warning(
                "%s: %d brokers %s are left out, although they accept our login: there are places "
                "for %d (%s), and those that confirm nothing lose theirs; name the brokers that "
                "matter with addresses= or in the hosts file, or raise the limit",
                self._name,
                count,
                kind.value,
                places[kind],
                _LIMITS[kind],
            )

    def crowded_out(self, count: int, most: int) -> None:
        """Say that announced brokers were forgotten before they could be asked.

        Args:
            count: how many so far.
            most: how many are remembered at a time.
        """
        if count > 2 * self._crowded_out:
            self._crowded_out = count
            logger.warning(
                "%s: forgot %d announced brokers before they could be asked: more than %d at a "
                "time (Limits.unknown_peers) are announced by holders of the key",
                self._name,
                count,
                most,
            )

    def is_told(self, row: ProbeResult) -> bool:
        """Whether the outcome of a probe was said already."""
        return self._outcomes.get(row.address) is row.outcome

    def probed(self, row: ProbeResult, standing: Standing) -> None:
        """Say why a broker cannot be used, or that it can, once until the reason changes."""
        if self.is_told(row):
            return
        error, source = row.error(), standing.source
        is_heard = source is PeerSource.HEARD and not row.connected
        if is_heard and not (standing.is_lasting or standing.is_member):
            return  # if it is still announced at the next round, it is told
        self._outcomes[row.address] = row.outcome
        who = self._who(row.address)
        if row.connected:
            self._answers.forget(who)
            said_before.over(str(row.address))
        how = "" if source is None else f" ({source.value})"
        # The node itself warns about its own broker, when it starts.
        is_named = source is not None and source.by_user and not standing.is_own
        if error is not None and is_named:
            is_news = not error.has_answered or self._answers.claim(error, who)
            level = logging.WARNING if is_news else logging.INFO
            text = said_before.fault(error) if is_news else str(error)
            logger.log(level, "%s: the broker at %s%s: %s", self._name, row.address, how, text)
        elif error is not None and is_heard and not standing.is_member:
            self._gets_none(row.address, error, who)  # of a member, its publishers tell
        elif row.outcome.nothing_there:
            logger.debug("%s: %s: %s", self._name, row.address, row.outcome.value)
        else:
            text = "%s: the broker at %s%s: %s"
            logger.info(text, self._name, row.address, how, row.outcome.value)

    def forget(self, known: Collection[Address]) -> None:
        """Forget what was said of brokers that are not known any more: others announce new ones."""
        for address in self._outcomes.keys() - known:
            del self._outcomes[address]
            self._answers.forget(self._who(address))

    def _gets_none(self, address: Address, error: BrokerError, who: str) -> None:
        if error.has_answered:
            self._answers.claim(error, who)
        text = "%s: %s: its own broker is %s, and %s"
        level = self._level_of_useless()
        why = said_before.fault(error) if level >= logging.WARNING else error
        logger.log(level, text, self._name, GETS_NONE, address, why)

    def _level_of_useless(self) -> int:
        """At which level to tell of an announced broker: a warning for a few in a minute."""
        now_s = self._clock()
        self._useless_s = [one for one in self._useless_s if now_s - one < _MINUTE_S]
        if len(self._useless_s) >= _MOST_USELESS:
            return logging.DEBUG
        self._useless_s.append(now_s)
        return logging.WARNING

    def _who(self, address: Address) -> str:
        return f"{self._name} at {address}"
