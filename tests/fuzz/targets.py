"""The targets of the fuzzer: each takes any bytes, and raises only if our code mishandles them.

All targets demand the same of our code. It raises only our own errors. It imports nothing, starts
no process, and opens no file or connection: an audit hook sees them. It keeps within a limit of
memory, which the driver sets (a `MemoryError` is a finding), and of time.

``make fuzz`` runs them under atheris; ``tests/unit/test_fuzz_targets.py`` runs their seeds.
"""

from __future__ import annotations

import base64
import codecs
import collections
import copy
import datetime
import math
import pickle
import sys
import time
import unicodedata  # noqa: F401  # urllib imports it when it first needs it
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from miros_rabbitmq.amqp.envelopes import Admission, EnvelopeTaker
from miros_rabbitmq.amqp.message_io import Delivery
from miros_rabbitmq.amqp.parameters import Endpoint, connection_parameters
from miros_rabbitmq.amqp.sinks import DirectSink
from miros_rabbitmq.delivery.window import Arrival, Bounds, Window
from miros_rabbitmq.discovery.arp import ArpEntry, parse_arp_program, parse_proc_net_arp
from miros_rabbitmq.discovery.hosts_file import HostsFileError, _text_of, parse_hosts
from miros_rabbitmq.discovery.lan_cache import MalformedCache, parse_cache
from miros_rabbitmq.exceptions import MessageRejected, SettingsError
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.urls import Address, AmqpUrl, parse_address, redact
from miros_rabbitmq.wire import pickle_check, pickling
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, Envelope, Kind, Purpose
from miros_rabbitmq.wire.json_codec import json_deserializer, json_serializer
from miros_rabbitmq.wire.notice import (
    Notice,
    NoticeKind,
    announce_broker,
    announce_listener,
    announced_broker,
    announced_pattern,
    asked_key,
    asks,
    is_listener,
    left_addresses,
)
from miros_rabbitmq.wire.opener import Opener
from miros_rabbitmq.wire.pickle_cost import Budget
from miros_rabbitmq.wire.pickling import RestrictedPickle

from ..wire import Forger
from . import streams

SLOW_S = 2.0
"""An input that takes longer is a finding. No input of these sizes does, even on a busy machine."""

MAX_BYTES = 4096
"""The size of the largest input that the fuzzer tries."""

_FORBIDDEN = (
    "import",
    "open",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "ctypes.dlopen",
    "compile",
    "exec",
)

# Python imports the module of an encoding when it first needs it.
for _encoding in ("idna", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be"):
    codecs.lookup(_encoding)
codecs.lookup("utf-32-le")

_guarded = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _guarded and event in _FORBIDDEN:
        raise Forbidden(f"{event} {arguments[:1]!r}")


class Forbidden(BaseException):
    """Our code did something that no input may cause. ``except Exception`` does not catch this."""


class Found(BaseException):
    """Our code mishandled an input."""


_hooked = False


@contextmanager
def guarded(slow_s: float = SLOW_S) -> Iterator[None]:
    """Watch while our code takes one input.

    Args:
        slow_s: how long it may take.

    Raises:
        Forbidden: it did what no input may cause.
        Found: it takes too long, or too much memory.
    """
    global _guarded, _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_audit)
    _guarded = True
    started_s = time.monotonic()
    try:
        yield
    except MemoryError as error:
        raise Found("it takes too much memory") from error
    finally:
        _guarded = False
    if time.monotonic() - started_s > slow_s:
        raise Found("it takes too long")


_KEY = base64.urlsafe_b64encode(bytes(32))
_restricted = RestrictedPickle()
_FORGERS = {purpose: Forger(_KEY, MESH, purpose=purpose) for purpose in Purpose}
_EVENTS = _FORGERS[Purpose.EVENTS]
_OWN_EPOCH = b"o" * 16


@contextmanager
def _looking_closely() -> Iterator[None]:
    """Lower the thresholds below which pickles are passed without a walk or a look at hashes."""
    usual = pickle_check.SMALL_BYTES, pickle_check.FEW_KEYS, pickling.FEW_BYTES
    pickle_check.SMALL_BYTES, pickle_check.FEW_KEYS, pickling.FEW_BYTES = 0, -1, 0
    try:
        yield
    finally:
        pickle_check.SMALL_BYTES, pickle_check.FEW_KEYS, pickling.FEW_BYTES = usual


class _Strict(Codec):
    """Raises a `MemoryError` that the codec takes for a bad message."""

    def deserialize(self, plain: bytes) -> Any:
        try:
            return super().deserialize(plain)
        except MessageRejected as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
            raise


_strict = _Strict(_KEY)


class _Receiver:
    """Takes messages as the mesh of a node does, and looks at everything that it is handed."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.notices: list[Notice] = []
        admission = Admission(
            bindings=[_EVENTS.routing_key],
            own_epochs=frozenset({_OWN_EPOCH}),
            on_notice=lambda notice, _: self.notices.append(notice),
        )
        sink = DirectSink("fuzz", self.envelopes.append)
        self.taker = EnvelopeTaker("fuzz", MESH, _strict, sink, Limits(), admission)

    def take(self, message: bytes) -> None:
        delivery = Delivery(message, _EVENTS.routing_key, MESH, False, 1)
        with guarded():
            if not self.taker.refuse_oversize(delivery):
                self.taker.take(delivery)
        for envelope in self.envelopes:
            if not Kind.EVENT.fits(envelope.body) or not 0 < len(envelope.sender) <= 255:
                raise Found("a chart would get what is no event")
            repr(envelope)
        for notice in self.notices:
            with guarded():
                addresses = [announced_broker(notice), *left_addresses(notice)]
                _ = is_listener(notice), asks(notice), announced_pattern(notice), asked_key(notice)
            if not all(str(one).isprintable() for one in addresses):
                raise Found("a node would connect to an address that cannot be shown")


def message(data: bytes) -> None:
    """No bytes of anybody without the key are taken: as a message, or behind a good header."""
    opener = Opener(_strict, MESH, most_records=100)
    receiver = _Receiver()
    for forger in _FORGERS.values():
        for whole in (data, forger.header[:2] + data, forger.header + data):
            try:
                with guarded():
                    opener.open(whole, forger.routing_key)
            except MessageRejected:
                pass
            else:
                raise Found("a message is taken for authentic")
            receiver.take(whole)
    if receiver.envelopes or receiver.notices:
        raise Found("a message that is not authentic is taken")


def records(data: bytes) -> None:
    """Whatever somebody with the key encrypts is an event or a notice, or is rejected.

    The bytes are what a record encrypts, and what it has as its body; they come twice, and the
    second time nothing is new.
    """
    for purpose, forger in _FORGERS.items():
        kind = Kind.EVENT if purpose is Purpose.EVENTS else NoticeKind.BROKER
        receiver = _Receiver()
        whole = forger.message(data, forger.plain(2**40, data, kind))
        receiver.take(whole)
        heard = len(receiver.envelopes), len(receiver.notices)
        receiver.take(whole)
        if heard != (len(receiver.envelopes), len(receiver.notices)):
            raise Found("a record is taken twice")


_SMALL_BOUNDS = Bounds(most_ranges=4, closed_per_number=3, most_jump=1_000)
_TAKEN = (Arrival.NEW, Arrival.BELOW)
_SEEN = (Arrival.DUPLICATE, Arrival.GIVEN_UP)
_HIGHEST = 2**63 - 1


def window(data: bytes) -> None:
    """A window takes no number twice unless it says that it has forgotten some, and stays small.

    Each byte is a step up or down from the number before, or a jump that takes the bytes behind it.
    """
    judged = Window(_SMALL_BOUNDS)
    taken: set[int] = set()
    number, twice, sizes = 1, 0, [judged.size_bytes]
    for number in _numbers(data):
        with guarded():
            arrival = judged.judge(number)
            if judged.judge(number) is not arrival:
                raise Found("to judge changes something")
            if arrival in _TAKEN:
                judged.mark(number)
            elif arrival is Arrival.LATE:
                judged.refuse(number)
            after = judged.judge(number)
            sizes.append(judged.size_bytes)
        if arrival in _TAKEN:
            twice += number in taken
            taken.add(number)
        if after not in _SEEN:
            raise Found("a number that was marked is not seen")
        if judged.gaps < 0:
            raise Found("less than nothing is missing")
        if twice > judged.forgotten:
            raise Found("a number is taken twice that was not forgotten")
    ranges = (max(sizes) - sizes[0]) / _BYTES_OF_RANGE
    if ranges > _SMALL_BOUNDS.most_ranges:
        raise Found("it remembers more than it may")


def _numbers(data: bytes) -> Iterator[int]:
    """Numbers from 1 to the highest: mostly near each other, now and then far away."""
    number, at = 1, 0
    while at < len(data):
        step = data[at]
        at += 1
        if step >= 0xF0:  # so many bytes of a number
            size = step - 0xF0
            number = int.from_bytes(data[at : at + size], "big")
            at += size
        elif step >= 0xE0:  # near a power of two
            number = (1 << 4 * (step - 0xE0)) + number % 16
        else:
            number += step - 0x60
        number = max(1, min(number, _HIGHEST))
        yield number


def _bytes_of_range() -> int:
    """How much larger a window is for each range."""
    small, larger = Window(), Window()
    small.mark(1)
    for number in (1, 3):
        larger.mark(number)
    return larger.size_bytes - small.size_bytes


_BYTES_OF_RANGE = _bytes_of_range()


_UNPICKLED_S = 1.0
"""An unpickler that takes more processor time for `MAX_BYTES` is a finding."""
_FEW_STEPS, _LITTLE_MEMORY = 400, 100_000


@contextmanager
def _unpickled_quickly() -> Iterator[None]:
    started_s = time.process_time()
    try:
        with guarded():
            yield
    finally:
        if (took_s := time.process_time() - started_s) > _UNPICKLED_S:
            raise Found(f"it takes {took_s:.1f} s of processor time")


class Paying(Budget):
    """A small budget, after which nothing may go on.

    It does not rely on what it checks: it counts by itself what is paid.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.steps, self.memory = _FEW_STEPS, _LITTLE_MEMORY
        self._paid_steps = self._paid_memory = 0

    def take_steps(self, count: int) -> None:
        self._expect_credit(count)
        self._paid_steps += count
        super().take_steps(count)
        self._expect_credit(0)

    def take_memory(self, count: int) -> None:
        self._expect_credit(count)
        self._paid_memory += count
        super().take_memory(count)
        self._expect_credit(0)

    def take_squares(self, squares: int) -> None:
        self._expect_credit(squares)
        before = self.steps
        super().take_squares(squares)
        self._paid_steps += before - self.steps

    def _expect_credit(self, count: int) -> None:
        if count < 0:
            raise Found("it takes less than nothing")
        if self._paid_steps > _FEW_STEPS or self._paid_memory > 2 * _LITTLE_MEMORY:
            raise Found("it goes on when its budget is used up")


_PAYING = mock.patch.object(pickle_check, "Budget", Paying)


def unpickler(data: bytes) -> None:
    """What the restricted pickle loads can be used, with all that it holds.

    Each input is also loaded with every opcode walked and every key looked at, which otherwise
    happens to large pickles only; and once more with so small a budget that many use it up.
    """
    whole = b"\x80\x03" + data
    with _looking_closely(), _unpickled_quickly(), suppress(Exception):
        _restricted.dumps(_restricted.loads(whole))
    with _looking_closely(), _PAYING, _unpickled_quickly(), suppress(Exception):
        _restricted.loads(whole)
    try:
        with _unpickled_quickly():
            value = _restricted.loads(whole)
    except Exception:  # noqa: BLE001 - `loads` may raise any kind
        return
    with _unpickled_quickly():
        use(value)
        with suppress(pickle.PicklingError):
            _restricted.dumps(value)


def use(value: object) -> None:
    """Do with a value what a program may do with it; only what has no hash may raise at that."""
    repr(value), str(value)
    copy.deepcopy(value), copy.copy(value)
    with suppress(RecursionError):  # the same list twice, each containing itself
        _ = value == value, value == copy.copy(value)
    seen: set[int] = set()
    rest = [value]
    while rest:
        one = rest.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        try:
            hash(one)
        except TypeError as error:
            if "unhashable type" not in str(error):
                raise
        if isinstance(one, (datetime.date, datetime.time)):
            one.isoformat()
        if isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset, collections.deque)):
            rest += one


def json(data: bytes) -> None:
    """What the JSON deserializer returns can be printed, encoded, and written and read again."""
    try:
        with guarded():
            value = json_deserializer(data)
    except (ValueError, RecursionError):
        return
    with guarded():
        repr(value).encode()
        again = json_deserializer(json_serializer(value))
    if again != value:
        raise Found("a value changes on its way")


def url(data: bytes) -> None:
    """A URL or an address is refused or parsed, and nothing shows its password."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        with guarded():
            parse_address(text)
    except SettingsError:
        pass
    for scheme in ("", "amqp://"):
        secret = "C4nary-p4ssw0rd"
        whole = AmqpUrl(scheme + text)
        try:
            with guarded():
                connection_parameters(Endpoint(whole), "fuzz")
                _ = whole.address
        except SettingsError as error:
            if secret in str(error) and f":{secret}@" in whole:
                raise Found("an error shows a password") from error
        with guarded():
            shown = redact(whole) + repr(whole)
        if f"//user:{secret}@" in whole and whole.count(secret) == 1 and secret in shown:
            raise Found("a password is shown")


def arp(data: bytes) -> None:
    """The parsers of ARP tables never raise."""
    text = data.decode("utf-8", "replace")
    with guarded():
        for parse in (parse_proc_net_arp, parse_arp_program):
            for entry in parse(text):
                assert isinstance(entry, ArpEntry)


def hosts_file(data: bytes) -> None:
    """A hosts file is read, or refused with a line and a column."""
    try:
        with guarded():
            mistakes = parse_hosts(_text_of(data), 5672).mistakes
        if any(min(error.line, error.column) < 1 for error in mistakes):
            raise Found("an error at no place")
    except HostsFileError as error:
        if error.line < 1 or error.column < 1:
            raise Found("an error at no place") from error


def cache_file(data: bytes) -> None:
    """A cache file is read, or refused."""
    try:
        with guarded():
            cached = parse_cache(data, 1e9)
    except MalformedCache:
        return
    if not math.isfinite(cached.age_s):
        raise Found("a cache of no age is taken")


def frames(data: bytes) -> None:
    """Native I/O, plain I/O and pika alone read the same in any stream of frames."""
    with guarded():
        differs = streams.difference(data)
    if differs:
        raise Found(differs)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        message,
        records,
        window,
        unpickler,
        json,
        frames,
        url,
        arp,
        hosts_file,
        cache_file,
    )
}

_PAYLOADS: tuple[Any, ...] = (
    None,
    {"a": [1, 2.5, True], "b": ("x", b"y")},
    [[], {}, (), set(), frozenset({1}), bytearray(b"z")],
    [2**70, 2**3000, "ä" * 300, b"x" * 300],
    [(n, str(n)) for n in range(300)],
    {(n, 2**70): frozenset({(n, 1), frozenset({n})}) for n in range(9)},
    [collections.OrderedDict({(n,): n}) for n in range(9)],
    [collections.Counter({(n,): n, 1.5: 2}) for n in range(3)],
    [{n * (2**61 - 1) for n in range(1, 9)}, {n * (2**61 - 1): n for n in range(1, 9)}],
)


def seeds(name: str) -> list[bytes]:
    """Return good inputs for a target to begin with."""
    pickles = [_restricted.dumps(("GO", one)) for one in _PAYLOADS]
    if name == "message":
        # Of another key, as a fuzzer easily repairs what is nearly authentic.
        stranger = _EVENTS._replace(key=base64.urlsafe_b64encode(b"s" * 32))
        foreign = [
            stranger.message(stranger.plain(1, one), stranger.plain(2, one))[len(_EVENTS.header) :]
            for one in pickles
        ]
        return [
            *foreign,
            *(_EVENTS.header + one for one in foreign),
            _EVENTS._replace(epoch=_OWN_EPOCH).header + foreign[0],
            b"gAAAAABm",
            b"\xf8\x01",
            b"\xf8\x03",
        ]
    if name == "records":
        notices = (
            announce_broker(parse_address("robot.example:5673")),
            announce_broker(Address("10.0.0.1"), [Address("::1"), Address("robot")]),
            announce_listener(asks=True, pattern="a.*", key="b"),
        )
        return [
            *(_EVENTS.plain(number, one) for number, one in enumerate(pickles, 1)),
            *(_EVENTS.plain(5, notice.body, notice.kind) for notice in notices),
            *pickles,
            *(notice.body for notice in notices),
        ]
    if name == "window":
        return [
            b"\x61" * 20,
            b"\x61\x61\x5f\x62\x65\x5e\x60\x70\x50",
            b"\x61\xef\x61\x61\xe1\x61\x61\xf8" + b"\x7f" + b"\xff" * 7 + b"\xe0\x61\x61",
            b"\x63" * 30 + b"\x5e" * 30,
            bytes(range(0xE0, 0xF0)) * 3,
        ]
    if name == "unpickler":
        return [one[2:] for one in pickles] + [
            b"cdatetime\ndate\nC\x04\x07\xea\x0b\x16\x85R.",
            b"cdecimal\nDecimal\nX\x01\x00\x00\x001\x85R.",
            b"ccollections\ndeque\n)K\x05\x86R(K\x01K\x02e.",
            b"]q\x00(K\x01h\x00e.",
            b"K\x01q\x01h\x01\x86q\x02h\x02\x86q\x03h\x03\x86.",
            b"K\x01q\x00" + b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(60)) + b".",
            b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60)) + b"t.",
            b"(]q\x00]q\x01h\x00aah\x01h\x01t.",
        ]
    if name == "frames":
        return streams.seeds()
    if name == "json":
        return [
            *(json_serializer(("GO", one)) for one in (None, [1.5, -2], {"a": {"b": "\\ü"}})),
            rb'["\ud83e\udd16", 1e308, -0.0, 123456789012345678901234567890]',
        ]
    if name == "url":
        return [
            b"user:C4nary-p4ssw0rd@host:5672/%2F?heartbeat=10",
            b"amqps://user:C4nary-p4ssw0rd@[::1]:5671/vhost",
            b"robot.example:5673",
        ]
    if name == "arp":
        return [
            b"IP address HW type Flags HW address Mask Device\n"
            b"192.168.1.1 0x1 0x2 aa:bb:cc:dd:ee:ff * eth0\n",
            b"gw (192.168.1.1) at aa:bb:cc:dd:ee:ff [ether] on eth0\n? (10.0.0.2) at (incomplete)",
            b"Interface: 10.0.0.5 --- 0x3\n  10.0.0.1   aa-bb-cc-dd-ee-ff   dynamic\n",
        ]
    if name == "hosts_file":
        return [
            b'{"hosts": ["192.168.1.71", "robot.example:5673"], "x": [1, null]}',
            b"\xef\xbb\xbf{}",
        ]
    return [b'{"addresses": ["10.0.0.1:5672"], "time": 999999990}']
