"""The cache: its content, when it is valid, and that no crash or other process spoils it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from miros_rabbitmq.discovery.lan_cache import MAX_ADDRESSES, LanCache
from miros_rabbitmq.urls import Address

HOSTS = (Address("10.0.0.2"), Address("10.0.0.3", 5673))
HALF_AN_HOUR_S = 1800.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


@pytest.fixture
def make(path: Path, clock: Clock) -> Callable[..., LanCache]:
    def made(valid_s: float = HALF_AN_HOUR_S) -> LanCache:
        return LanCache(path, valid_s, clock)

    return made


MakeCache = Callable[..., LanCache]


def test_it_holds_addresses_and_the_time_and_nothing_else(
    make: MakeCache, path: Path, clock: Clock
) -> None:
    make().save(HOSTS)
    assert json.loads(path.read_text()) == {
        "addresses": ["10.0.0.2:5672", "10.0.0.3:5673"],
        "time": clock.now_s,
    }
    clock.now_s += 60
    cached = make().load()
    assert cached is not None
    assert cached == (HOSTS, 60.0)


@pytest.mark.parametrize(("age_s", "counts"), [(0, True), (1800, True), (1801, False), (-1, False)])
def test_it_is_valid_until_its_time_is_over_and_not_before_it_was_written(
    make: MakeCache, clock: Clock, age_s: float, counts: bool
) -> None:
    make().save(HOSTS)
    clock.now_s += age_s
    assert (make().load() is not None) is counts


def test_with_no_validity_it_is_neither_read_nor_written(make: MakeCache, path: Path) -> None:
    make().save(HOSTS)
    assert make(0.0).load() is None
    path.unlink()
    make(0.0).save(HOSTS)
    assert not path.exists()


def test_a_missing_cache_is_not_logged(make: MakeCache, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert make().load() is None
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"addresses": [], "time": "noon"}',
        b'{"addresses": [], "time": NaN}',
        b'{"addresses": [], "time": 1e999}',
        b'{"addresses": [], "time": 1' + b"0" * 400 + b"}",
        b'{"addresses": 7, "time": 1}',
        b'{"addresses": {"a": 1}, "time": 1}',
        b'{"addresses": ["10.0.0.2"]}',
        b"[" * 50_000,
        b" " * 100_000,
    ],
)
def test_a_cache_that_cannot_be_read_is_ignored_and_written_anew(
    make: MakeCache, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    assert make().load() is None
    make().save(HOSTS)
    cached = make().load()
    assert cached is not None
    assert cached.addresses == HOSTS


def test_an_address_that_is_none_costs_no_other(
    make: MakeCache, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [7, "10.0.0.2", "amqp://u:canary@h/", "robot\u2100.lan", "Robot-B", "robot-b"]
    path.write_text(json.dumps({"addresses": odd, "time": clock.now_s}))
    caplog.set_level(logging.DEBUG)
    cached = make().load()
    assert cached is not None
    assert cached.addresses == (Address("10.0.0.2"), Address("robot-b"))
    assert "canary" not in caplog.text


def test_it_is_written_again_when_it_says_something_new_or_has_become_old(
    make: MakeCache, path: Path, clock: Clock
) -> None:
    cache = make()

    def writes(addresses: tuple[Address, ...]) -> bool:
        path.unlink(missing_ok=True)
        cache.save(addresses)
        return path.exists()

    assert writes(HOSTS)
    clock.now_s += 60
    assert not writes(HOSTS)
    assert writes(HOSTS[:1])
    clock.now_s += HALF_AN_HOUR_S / 4
    assert writes(HOSTS[:1])
    assert not writes(()), "without brokers there is nothing to remember"


def test_a_folder_that_cannot_be_written_costs_one_line(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = LanCache(tmp_path / "missing" / "cache.json", HALF_AN_HOUR_S, clock)
    for _ in range(3):
        cache.save(HOSTS)
    (record,) = caplog.records
    assert "cannot be written (No such file or directory)" in record.getMessage()


def test_nothing_is_left_beside_it_not_even_by_a_process_that_died(
    make: MakeCache, path: Path, clock: Clock
) -> None:
    abandoned, fresh = path.with_name("cache.json.a.tmp"), path.with_name("cache.json.b.tmp")
    for file, age_s in ((abandoned, 120), (fresh, 1)):
        file.write_text("half of i")
        os.utime(file, (clock.now_s - age_s, clock.now_s - age_s))
    make().save(HOSTS)
    assert sorted(path.parent.iterdir()) == [path, fresh], "the other is being written"


def test_what_was_planted_at_its_place_is_replaced_and_not_written_through(
    make: MakeCache, path: Path, clock: Clock
) -> None:
    victim, pipe = path.with_name("victim"), path.with_name("cache.json.pipe.tmp")
    victim.write_text("mine")
    os.utime(victim, (clock.now_s - 120, clock.now_s - 120))
    os.mkfifo(pipe)
    link = path.with_name("cache.json.link.tmp")
    link.symlink_to("victim")
    plants: list[Callable[[], None]] = [
        lambda: path.symlink_to("victim"),
        lambda: os.mkfifo(path),
    ]
    for plant in plants:
        path.unlink(missing_ok=True)
        plant()
        make().save(HOSTS)
        assert path.is_file()
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o600
    assert victim.read_text() == "mine"
    assert link.is_symlink()


def test_many_that_write_at_once_leave_one_whole_cache(path: Path) -> None:
    lists = [tuple(Address(f"10.0.{n}.{host}") for host in range(200)) for n in range(4)]
    start = threading.Barrier(len(lists))
    done = threading.Event()
    seen: list[tuple[Address, ...]] = []

    def write(addresses: tuple[Address, ...]) -> None:
        start.wait(20)
        for _ in range(25):
            LanCache(path, HALF_AN_HOUR_S).save(addresses)

    def read() -> None:
        cache = LanCache(path, HALF_AN_HOUR_S)
        while not done.is_set():
            cached = cache.load()
            if cached is not None:
                seen.append(cached.addresses)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(one,)) for one in lists]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join(20)
    done.set()
    reader.join(20)
    cached = LanCache(path, HALF_AN_HOUR_S).load()
    assert cached is not None
    seen.append(cached.addresses)
    assert {frozenset(one) for one in seen} <= {frozenset(one) for one in lists}
    assert list(path.parent.iterdir()) == [path]


def test_it_is_bounded(make: MakeCache, path: Path) -> None:
    make().save(Address(f"10.1.{n // 256}.{n % 256}") for n in range(2_000))
    assert len(json.loads(path.read_text())["addresses"]) == MAX_ADDRESSES
    assert make().load() is not None
