"""Which numbers a receiver has seen, so that it tells what is new from what came before.

A sender's start draws an *epoch*, and in it numbers what goes by one routing key 1, 2, 3, ... . A
`Window` remembers the numbers of one epoch and routing key; `Windows` keeps the windows of all of
them within a bound.

All members of a system share one key, so an authenticated number may come from two kinds of enemy:

- Who has no key, such as a hostile broker, can withhold, reorder and repeat what honest senders
  sent. Against it, no number is taken twice, up to a bound that takes great losses to reach.
- Who has the key can make up any epoch and any number. Against it, made-up jumps of the number
  leave the numbers below receivable, for good: each made-up event costs the honest sender at most
  `Bounds.closed_per_number` numbers.

And whatever an honest sender loses, what arrives of it above all that was seen is taken.

What is taken is in order. A number below one that came before is *late*, and is refused: its sender
has passed it, so to take it would be out of order. Only if what came above it is a jump that nobody
has to believe, it is taken: see `Window`.

Pure: no I/O, no clock, no thread, and no lock: the owner locks. Give it authenticated numbers only,
from 1 to 2**63 - 1.
"""

from __future__ import annotations

import enum
import sys
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

_MOST_TOLD = 1_024
"""So many last numbers are remembered of senders of which nothing else was heard."""

HIGHEST = 2**63 - 1
"""The highest number that a sender may use."""


class Arrival(enum.Enum):
    """What a number says about the event that bears it."""

    NEW = "above everything seen"
    LATE = "below something seen, which its sender has reached: too late to be in order"
    BELOW = "below something seen, which its sender has hardly reached: a jump that was made up"
    DUPLICATE = "seen before"
    GIVEN_UP = "in a range of which some was given up: seen before, or not"


class Bounds(NamedTuple):
    """How much a window remembers. The defaults are right; tests use smaller ones."""

    most_ranges: int = 4_096
    """The most ranges of a window, at least 2."""
    closed_per_number: int = 64
    """For each number that came, a range holds at most so many that were given up. For as many,
    it is believed that their sender has passed them."""
    most_jump: int = 2**32
    """A jump that skips more than this is made up, and what it skips does not count as missing."""


BOUNDS = Bounds()


class Window:
    """The numbers seen of one epoch and routing key, as disjoint ranges with holes between them.

    An honest sender without losses has one range. A loss, or a jump that somebody made up, opens
    another. When a range more than `Bounds.most_ranges` is opened, the window makes room:

    1. It *closes* holes: their numbers count as seen, and the ranges around become one. This never
       lets a number through twice, but the numbers of a closed hole are refused from then on. To
       an honest sender, a hole below its position is past and costs nothing, and a hole above it
       can only lie below a range that somebody made up. So each hole is paid for by the range
       right above it: a hole is closable if that range and the hole together hold at most
       `Bounds.closed_per_number` numbers given up for each that really came. Numbers given up
       earlier stay on the account of the range, or two events could close a hundred numbers, count
       as a hundred, and then close ten thousand. To make an honest sender lose g numbers, somebody
       has to send g / 64 made-up events, besides those that fill the window. (To send the g
       numbers themselves has the same effect, and is the price of one key for all.)

       Those go first whose ranges were touched least recently, and as many as free a quarter of
       the ranges: so the search is paid by many openings, and the recent holes, into which
       something may still come late, stay open.

    2. If no hole is closable, it *forgets* ranges: of the half touched least recently, those that
       hold the fewest numbers, a sixteenth of all. That is the one case in which numbers may be
       taken again; `forgotten` counts them. It takes more than 4,095 holes with fewer than one
       number in 64 around them. Somebody without the key brings this about only by withholding
       some 260,000 events and letting almost none through. Somebody with the key does it with 4,096
       events, but needs no repeats. The newcomer is never among them, nor is anything recent, which
       the sender may send again when its connection is lost; and an honest range of many numbers
       stands against any number of made-up jumps.

    It cannot be had without that case: an honest sender with great losses and a few made-up jumps
    look the same, and to refuse exactly what came takes memory for each jump.

    The numbers below the lowest range are never closed: the first number heard may be made up.

    The same account tells what is *late*. A hole is believed to be passed, and what comes of it is
    late, if the numbers that came right above it are at least one for each
    `Bounds.closed_per_number` that they skip: of those from the hole up to the end of one of the
    next ranges. Otherwise the range above is a jump that may be made up, and what comes below is
    taken, in order of its own range. What counts is how wide the hole was when it was opened: an
    honest sender that approaches a jump from below makes the hole smaller, and not the jump more
    believable. Below the lowest range, where no hole was opened, the distance of the number counts.
    So, to have g numbers of an honest sender refused, somebody has to send g / 64 made-up events.
    The price: if an honest sender loses more than 64 numbers in a row on one way, and they come by
    another, slower one, these are taken out of order until enough has come above them.
    """

    __slots__ = (
        "_at",
        "_bounds",
        "_floors",
        "_highs",
        "_lows",
        "_marks",
        "_missing",
        "_next",
        "_stop",
        "_told",
        "_touched",
        "_verdict",
        "changes",
        "forgotten",
        "gaps",
    )

    def __init__(self, bounds: Bounds = BOUNDS, told: int = 0) -> None:
        if bounds.most_ranges < 2:
            raise ValueError("a window needs 2 ranges or more")
        self._bounds = bounds
        # One entry for each range, in ascending order; arrays hold it in a fifth of the memory
        # that objects take.
        self._lows = array("q")
        self._highs = array("q")
        self._marks = array("q")  # numbers that came; the rest of the range was given up
        self._missing = array("q")  # of the hole below: so many, its lowest, are counted as gaps
        self._floors = array("q")  # where the hole below began when the range was opened
        self._touched = array("q")  # by which change
        # The highest number that the sender says it has sent. Those above the highest seen, up to
        # this one, are counted as gaps; before the first number came, this is the baseline.
        self._told = told
        # The range touched last grows by `_next` alone, as long as that stays below `_stop`: its
        # entries in `_highs` and `_marks` follow when another way is taken.
        self._at = -1
        self._next = 0
        self._stop = 0
        self._verdict = Arrival.NEW
        self.changes: int = 0
        """Grows whenever `gaps`, `forgotten` or `size_bytes` may have changed."""
        self.forgotten: int = 0
        """Numbers that came and may be taken again, because the window had no room for them."""
        self.gaps: int = 0
        """Numbers that were skipped between the lowest and the highest seen or told, and have not
        come, or came too late."""

    def judge(self, number: int) -> Arrival:
        """Say whether a number is new. Changes nothing."""
        if number == self._next:
            return self._verdict
        lows = self._lows
        at = bisect_right(lows, number) - 1
        if at < 0:
            return self._below(0, number) if lows else Arrival.NEW
        if number <= (self._next - 1 if at == self._at else self._highs[at]):
            # Where the range grows fast, both sides of this are behind by the same.
            is_whole = self._highs[at] - lows[at] + 1 == self._marks[at]
            return Arrival.DUPLICATE if is_whole else Arrival.GIVEN_UP
        return Arrival.NEW if at == len(lows) - 1 else self._below(at + 1, self._floors[at + 1])

    def mark(self, number: int) -> int:
        """Note a number as seen; one that is already seen changes nothing.

        Returns:
            How many numbers are missing that were not missing before, mostly 0.
        """
        if number == self._next and number < self._stop:
            self._next = number + 1
            return 0
        return self._mark_elsewhere(number)

    def refuse(self, number: int) -> int:
        """Note a number as seen that is not handed over. If it is missing, it stays so.

        Returns:
            as `mark` does.
        """
        gaps = self.gaps
        newly = self.mark(number)
        self.gaps = max(self.gaps, gaps)
        return newly

    def tell(self, last: int) -> int:
        """Note that the sender has sent all numbers up to this one, as it says.

        Those above the highest seen are missing, until they come. They may still come: nothing
        above them was taken.

        Returns:
            How many numbers are missing that were not missing before.
        """
        self._catch_up()
        known = max(self._told, self._highs[-1] if self._highs else 0)
        newly = last - known
        if not 0 < newly <= self._bounds.most_jump:
            return 0
        self.changes += 1
        self._told = last
        if not self._highs:
            return 0
        self.gaps += newly
        self._turn_to(self._at)
        return newly

    @property
    def size_bytes(self) -> int:
        """About how much memory the window takes, rather more than less."""
        return _BYTES_OF_WINDOW + _BYTES_OF_RANGE * len(self._lows)

    def _mark_elsewhere(self, number: int) -> int:
        self._catch_up()
        lows, highs, marks = self._lows, self._highs, self._marks
        above = bisect_right(lows, number)
        below = above - 1
        has_below, has_above = below >= 0, above < len(lows)
        if has_below and number <= highs[below]:
            return 0
        floor = highs[below] + 1 if has_below else number
        self.changes += 1
        missing_below, missing_above, newly = self._split_hole(number, below)
        if not lows:
            self._told = 0  # it was where counting began
        if has_above:
            self._missing[above] = missing_above
        if has_below and number == highs[below] + 1:
            at = below
            highs[at] = number
            marks[at] += 1
            if has_above and number + 1 == lows[above]:
                self._join(above)
        elif has_above and number + 1 == lows[above]:
            at = above
            lows[at] = number
            marks[at] += 1
            self._missing[at] = missing_below
            self._floors[at] = min(self._floors[at], floor)
        else:
            at = above
            lows.insert(at, number)
            highs.insert(at, number)
            marks.insert(at, 1)
            self._missing.insert(at, missing_below)
            self._touched.insert(at, 0)
            self._floors.insert(at, floor)
            if has_above and not has_below:
                # It was the lowest, and now has a hole below it.
                self._floors[at + 1] = min(self._floors[at + 1], number + 1)
        self._touched[at] = self.changes
        # The newcomer is in already: it splits the hole it came into, instead of being closed in.
        if len(lows) > self._bounds.most_ranges:
            self._make_room()
            at = bisect_right(lows, number) - 1
        self._turn_to(at)
        return newly

    def _catch_up(self) -> None:
        """Bring the entries of the range touched last up to date."""
        at = self._at
        if at >= 0:
            high = self._next - 1
            self._marks[at] += high - self._highs[at]
            self._highs[at] = high

    def _turn_to(self, at: int) -> None:
        """Make this range the one that grows fast."""
        self._at = at
        self._next = self._highs[at] + 1
        if at == len(self._lows) - 1:
            # What was told has to be counted when it comes.
            self._stop = HIGHEST + 1 if self._told < self._next else 0
            self._verdict = Arrival.NEW
        else:
            # What fills a gap has to be counted, and what meets the range above joins it.
            self._stop = 0 if self._missing[at + 1] else self._lows[at + 1] - 1
            self._verdict = self._below(at + 1, self._floors[at + 1])

    def _below(self, above: int, floor: int) -> Arrival:
        """Say what a number is that is below a range, and not seen.

        Args:
            above: the range.
            floor: where the hole between them begins, or began.
        """
        most_for_each = self._bounds.closed_per_number + 1
        came = 0
        for at in range(above, min(above + _MOST_BELIEVED, len(self._lows))):
            came += self._marks[at]
            high = self._highs[at]
            if at == self._at:
                came += self._next - 1 - high
                high = self._next - 1
            if high - floor < came * most_for_each:
                return Arrival.LATE
        return Arrival.BELOW

    def _split_hole(self, number: int, below: int) -> tuple[int, int, int]:
        """Count what a number leaves missing of the hole above the range `below`.

        Of each hole its lowest numbers are counted, all of them or none as a rule: all after a
        loss, none below a jump that is made up. A number that comes into the latter leaves a gap
        below it, which an honest sender has lost, and none above it. What is below the first
        number heard is no gap.

        Returns:
            How many numbers are missing below this one, how many above, and how many of these are
            so newly.
        """
        has_above = below + 1 < len(self._lows)
        if below >= 0:
            floor = self._highs[below] + 1
        elif not has_above and 0 < self._told < number:
            floor = self._told + 1
        else:
            return 0, 0, 0
        skipped = number - floor
        counted = self._missing[below + 1] if has_above else max(0, self._told + 1 - floor)
        if skipped < counted:
            self.gaps -= 1
            return skipped, counted - skipped - 1, 0
        newly = skipped - counted
        if newly > self._bounds.most_jump:
            newly = 0
        self.gaps += newly
        return counted + newly, 0, newly

    def _make_room(self) -> None:
        most = self._bounds.most_ranges
        touched = self._touched
        holes = self._closable_holes()
        if holes:
            # To close one hole leaves all others as closable as they were, or more so.
            holes.sort(key=lambda at: max(touched[at - 1], touched[at]))
            surplus = len(touched) - (most - most // 4)
            self._join_all(set(holes[:surplus]))
        else:
            by_touch = sorted(range(len(touched)), key=touched.__getitem__)
            idle = sorted(by_touch[: len(by_touch) // 2], key=self._marks.__getitem__)
            for at in sorted(idle[: max(1, most // 16)], reverse=True):
                self._forget(at)

    def _closable_holes(self) -> list[int]:
        """The ranges that can pay for the hole below them."""
        # A range and the hole below it reach from one high to the next.
        most_for_each = self._bounds.closed_per_number + 1
        highs = self._highs
        return [
            at
            for at, (high_below, high, marks) in enumerate(
                zip(highs, highs[1:], self._marks[1:], strict=False), start=1
            )
            if high - high_below <= marks * most_for_each
        ]

    def _join_all(self, holes: set[int]) -> None:
        """Close many holes in one go, each named by the range above it."""
        firsts = [at for at in range(len(self._lows)) if at not in holes]
        groups = list(zip(firsts, [*firsts[1:], len(self._lows)], strict=True))
        marks, touched = self._marks, self._touched
        # In place, as others have the same arrays in hand.
        self._lows[:] = array("q", [self._lows[first] for first in firsts])
        self._highs[:] = array("q", [self._highs[end - 1] for _, end in groups])
        self._missing[:] = array("q", [self._missing[first] for first in firsts])
        self._floors[:] = array("q", [self._floors[first] for first in firsts])
        marks[:] = array("q", [sum(marks[first:end]) for first, end in groups])
        touched[:] = array("q", [max(touched[first:end]) for first, end in groups])

    def _join(self, at: int) -> None:
        """Make one range of a range and the one below it. What is missing there stays counted."""
        self._highs[at - 1] = self._highs[at]
        self._marks[at - 1] += self._marks[at]
        self._touched[at - 1] = max(self._touched[at - 1], self._touched[at])
        self._drop(at)

    def _forget(self, at: int) -> None:
        self.forgotten += self._marks[at]
        if at == len(self._lows) - 1:
            # What is above the highest number is not missing, and counts when the next one comes.
            self.gaps -= self._missing[at] + max(0, self._told - self._highs[at])
            self._told = 0
        else:
            self._floors[at + 1] = min(self._floors[at], self._floors[at + 1])
            if at > 0:
                self._missing[at + 1] += self._missing[at]
        # What is missing above the lowest range stays counted for good: `_split_hole` takes nothing
        # away below the lowest one.
        self._drop(at)

    def _drop(self, at: int) -> None:
        for entries in (
            self._lows,
            self._highs,
            self._marks,
            self._missing,
            self._touched,
            self._floors,
        ):
            del entries[at]


_MOST_BELIEVED = 64
"""So many ranges above a hole are looked at, to tell whether their sender has passed it."""

# Measured with tracemalloc on CPython 3.10 to 3.13, and rounded up: the object, six arrays with
# what they hold in reserve, and the numbers that the object itself refers to.
_BYTES_OF_WINDOW = 1_100
_BYTES_OF_RANGE = 53


class Windows:
    """The windows of all epochs and routing keys, within a bound on their number and their bytes.

    What is over a bound is forgotten, and then a repeat of what was in it is taken again. Who has
    the key can make up any number of starts, so what was heard often is protected from what was
    not. A window is on probation until `established_after` numbers were marked in it, and then
    established. Established windows use up to half of each bound, in which the one marked least
    recently makes room for a new one: it goes back on probation, from where the next number that it
    gets brings it up again. To stay within the bounds, the window on probation that was marked
    least recently is evicted. So no flood of starts with few numbers evicts an established window,
    a flood of established ones only what is silent for long, and neither makes the memory grow.

    The window being marked is never evicted, also if it is larger than the bound by itself.

    Keys are hashable values of the caller. If they are tuples, the first item is the epoch. Hand in
    equal keys in a row where possible: that is the fast path.

    Args:
        most_windows: the most windows, at least 2.
        most_bytes: about the most memory for all of them, the keys included.
        established_after: the numbers after which a window is established.
        bounds: those of each window.
    """

    def __init__(
        self,
        most_windows: int = 8_192,
        most_bytes: int = 8 * 2**20,
        *,
        established_after: int = 16,
        bounds: Bounds = BOUNDS,
    ) -> None:
        if most_windows < 2:
            raise ValueError("there must be room for 2 windows or more")
        self._most_windows = most_windows
        self._most_bytes = most_bytes
        self._established_after = established_after
        self._bounds = bounds
        # Of both, the one marked least recently comes first.
        self._probation: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._established: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._established_bytes = 0
        # How many windows each epoch has.
        self._epochs: dict[Hashable, int] = {}
        # What was told of those that have no window, so that they do not count as known.
        self._told: OrderedDict[Hashable, int] = OrderedDict()
        # The window marked last. If it is established by its count, it is among the established.
        self._latest_key: Hashable = object()
        self._latest = _Kept(0, Window(bounds), established_after)
        self.size_bytes: int = 0
        """About how much memory the windows take, rather more than less."""
        self.gaps: int = 0
        """The gaps of all windows, also of those that were evicted."""
        self.forgotten: int = 0
        """Numbers that windows forgot for want of room; see `Window`. Evictions do not count."""
        self.evicted: int = 0
        """Windows that were evicted."""
        self.newest_evicted_ms: int = 0
        """The newest time of sending in any window evicted, 0 as long as none was.

        A receiver that trusts the clocks refuses, from epochs it does not know, what is not newer.
        It must have refused before what is from the future: one such time would shut out all new
        starts.
        """

    def __len__(self) -> int:
        return len(self._probation) + len(self._established)

    def knows(self, epoch: Hashable) -> bool:
        """Tell whether there is a window of an epoch, for any routing key."""
        return epoch in self._epochs

    def counts(self, key: Hashable) -> bool:
        """Tell whether numbers of a key would count as missing: some was heard, or told of."""
        return key in self._established or key in self._probation or key in self._told

    def get(self, key: Hashable) -> Window | None:
        """The window of a key, to look at: marking goes through `mark`."""
        kept = self._established.get(key) or self._probation.get(key)
        return kept.window if kept else None

    def judge(self, key: Hashable, number: int) -> Arrival:
        """Say whether a number is new in its window. Changes nothing."""
        if key == self._latest_key:
            return self._latest.window.judge(number)
        window = self.get(key)
        return window.judge(number) if window else Arrival.NEW

    def mark(self, key: Hashable, number: int, sent_ms: int) -> int:
        """Note a number as seen in the window of this key, which is made if there is none.

        Args:
            key: whose window it is.
            number: what was judged new or late, and handed over.
            sent_ms: when the sender sent it, in ms of any one clock.

        Returns:
            How many numbers are missing that were not missing before, mostly 0.
        """
        kept = self._latest if key == self._latest_key else self._turn_to(key)
        if sent_ms > kept.newest_ms:
            kept.newest_ms = sent_ms
        window = kept.window
        newly = window.mark(number)
        if kept.changes != window.changes or kept.wanted:
            self._account(key, kept)
        return newly

    def refuse(self, key: Hashable, number: int, sent_ms: int) -> int:
        """Do the same for a number that is not handed over. If it is missing, it stays so."""
        kept = self._latest if key == self._latest_key else self._turn_to(key)
        kept.newest_ms = max(kept.newest_ms, sent_ms)
        newly = kept.window.refuse(number)
        self._account(key, kept)
        return newly

    def tell(self, key: Hashable, last: int) -> int:
        """Note that a sender has sent the numbers up to this one, as it says itself.

        Where nothing was heard of it, this is only where counting begins, and no window is made.

        Returns:
            How many numbers are missing that were not missing before.
        """
        kept = self._established.get(key) or self._probation.get(key)
        if kept:
            newly = kept.window.tell(last)
            self._count(kept)
            return newly
        before = self._told.pop(key, last)
        if len(self._told) >= _MOST_TOLD:
            self._told.popitem(last=False)
        newly = last - before if 0 < last - before <= self._bounds.most_jump else 0
        self._told[key] = max(last, before)
        self.gaps += newly
        return newly

    def _turn_to(self, key: Hashable) -> _Kept:
        """The window of a key, which from here on is the one marked last."""
        kept = self._established.get(key)
        if kept:
            self._established.move_to_end(key)
        else:
            kept = self._probation.get(key)
            if not kept:
                window = Window(self._bounds, self._told.pop(key, 0))
                kept = _Kept(_size_of_key(key), window, self._established_after)
                self._probation[key] = kept
                self.size_bytes += kept.size_bytes
                epoch = _epoch_of(key)
                self._epochs[epoch] = self._epochs.get(epoch, 0) + 1
            elif kept.wanted:
                self._probation.move_to_end(key)
            else:
                self._establish(key, kept)
        self._latest_key = key
        self._latest = kept
        return kept

    def _account(self, key: Hashable, kept: _Kept) -> None:
        """Follow what marking changed in the window marked last, and keep within the bounds."""
        window = kept.window
        self._count(kept)
        size_bytes = kept.key_bytes + window.size_bytes
        grown = size_bytes - kept.size_bytes
        kept.size_bytes = size_bytes
        self.size_bytes += grown
        if kept.wanted:
            kept.wanted -= 1
            if not kept.wanted:
                self._establish(key, kept)
        else:
            self._established_bytes += grown
            self._limit_established()
        while len(self) > self._most_windows or self.size_bytes > self._most_bytes:
            if not (self._evict(self._probation) or self._evict(self._established)):
                break

    def _count(self, kept: _Kept) -> None:
        window = kept.window
        kept.changes = window.changes
        self.gaps += window.gaps - kept.gaps
        kept.gaps = window.gaps
        self.forgotten += window.forgotten - kept.forgotten
        kept.forgotten = window.forgotten

    def _establish(self, key: Hashable, kept: _Kept) -> None:
        del self._probation[key]
        self._established[key] = kept
        self._established_bytes += kept.size_bytes
        self._limit_established()

    def _limit_established(self) -> None:
        """Put back on probation what is too much. The last of them is the one being marked."""
        established = self._established
        while len(established) > 1 and (
            len(established) > self._most_windows // 2
            or self._established_bytes > self._most_bytes // 2
        ):
            key, kept = established.popitem(last=False)
            self._established_bytes -= kept.size_bytes
            self._probation[key] = kept

    def _evict(self, segment: OrderedDict[Hashable, _Kept]) -> bool:
        """Forget the first window of a segment, and say whether there is one to forget."""
        key = next(iter(segment), self._latest_key)
        if key == self._latest_key:
            return False
        kept = segment.pop(key)
        epoch = _epoch_of(key)
        self._epochs[epoch] -= 1
        if not self._epochs[epoch]:
            del self._epochs[epoch]
        self.size_bytes -= kept.size_bytes
        if segment is self._established:
            self._established_bytes -= kept.size_bytes
        self.newest_evicted_ms = max(self.newest_evicted_ms, kept.newest_ms)
        self.evicted += 1
        return True


class _Kept:
    """A window, and what `Windows` notes of it."""

    __slots__ = (
        "changes",
        "forgotten",
        "gaps",
        "key_bytes",
        "newest_ms",
        "size_bytes",
        "wanted",
        "window",
    )

    def __init__(self, key_bytes: int, window: Window, wanted: int) -> None:
        self.window = window
        self.key_bytes = key_bytes + _BYTES_OF_ENTRY
        self.wanted = wanted  # so many numbers more, and it is established
        self.newest_ms = 0
        # What of the window is in the totals already.
        self.size_bytes = self.key_bytes + window.size_bytes
        self.changes = window.changes
        self.gaps = 0
        self.forgotten = 0


_BYTES_OF_ENTRY = 550  # measured as above: what is noted of a window, and its place in the order


def _epoch_of(key: Hashable) -> Hashable:
    return key[0] if isinstance(key, tuple) else key


def _size_of_key(key: Hashable) -> int:
    parts = key if isinstance(key, tuple) else ()
    return sys.getsizeof(key) + sum(map(sys.getsizeof, parts))
