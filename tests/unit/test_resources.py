"""What a process can run out of, how that is worded, and threads that are started later."""

from __future__ import annotations

import copy
import errno
import logging
import os
import threading
from collections import deque

import pytest

from miros_rabbitmq.exceptions import MirosRabbitMQError, OutOfResources
from miros_rabbitmq.resources import (
    ENDING,
    FILES,
    MEMORY,
    PROCESSES,
    THREADS,
    LateStarts,
    News,
    StartsLate,
    late_starts,
    naming_shortage,
    require_descriptors,
    shortage,
    start_thread,
)
from miros_rabbitmq.worker import Worker

from ..helpers import wait_until

NO_THREAD = RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (OSError(errno.EMFILE, ""), FILES, "LimitNOFILE="),
        (OSError(errno.ENFILE, ""), FILES, "fs.file-max"),
        (OSError(errno.ENOMEM, ""), MEMORY, "MemoryMax="),
        (OSError(errno.ENOBUFS, ""), MEMORY, "MemoryMax="),
        (MemoryError(), MEMORY, "MemoryMax="),
        (NO_THREAD, THREADS, "TasksMax="),
        (RuntimeError("can't create new thread at interpreter shutdown"), ENDING, "is ending"),
    ],
)
def test_each_shortage_is_worded_with_its_remedy(error: Exception, what: str, remedy: str) -> None:
    short = shortage(error)
    assert short is not None
    assert short.what == what
    assert remedy in str(short)
    assert copy.copy(short).what == what
    with pytest.raises(MirosRabbitMQError) as raised, naming_shortage():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ECONNREFUSED, ""),
        OSError("without a number"),
        RuntimeError("threads can only be started once"),
        BlockingIOError(errno.EAGAIN, ""),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert shortage(error) is None
    with pytest.raises(type(error)) as raised, naming_shortage():
        raise error
    assert raised.value is error


def test_only_where_a_process_is_started_its_refusal_means_that_there_are_too_many() -> None:
    refused = BlockingIOError(errno.EAGAIN, "")
    with pytest.raises(OutOfResources) as raised, naming_shortage(forks=True):
        raise refused
    assert raised.value.what == PROCESSES


def test_a_shortage_in_our_words_is_not_worded_again() -> None:
    short = OutOfResources("no more", MEMORY)
    assert shortage(short) is short


def test_descriptors_that_are_only_asked_for_are_given_back() -> None:
    before = set(os.listdir("/proc/self/fd"))
    require_descriptors(5)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_thread_that_was_started_before_is_an_error_of_another_kind() -> None:
    thread = threading.Thread(target=int)
    start_thread(thread)
    thread.join()
    with pytest.raises(RuntimeError, match="once"):
        start_thread(thread)


def test_the_first_who_suffers_says_so_and_after_a_minute_the_next() -> None:
    now = [0.0]
    news = News(lambda: now[0])
    files, memory = OutOfResources("", FILES), OutOfResources("", MEMORY)
    assert [news.is_news(one) for one in (files, files, memory)] == [True, False, True]
    now[0] = 59.0
    assert not news.is_news(files)
    now[0] = 61.0
    assert news.is_news(files)


class Member(StartsLate):
    """Can be started from some attempt on."""

    def __init__(self, late: LateStarts, fails: int) -> None:
        self.late, self.fails, self.attempts = late, fails, 0

    def start_late(self) -> bool:
        self.attempts += 1
        if self.attempts <= self.fails:
            self.late.add(self, OutOfResources("none", THREADS))
            return False
        return True


def test_a_start_is_tried_again_once_a_second_until_it_succeeds() -> None:
    now = [0.0]
    late = LateStarts(lambda: now[0])
    member = Member(late, fails=1)
    late.add(member, OutOfResources("none", THREADS))
    assert not late.retry()
    now[0] = 1.0
    assert late.retry()
    assert not late.retry()
    assert late.is_any
    now[0] = 2.0
    assert late.retry()
    assert not late.is_any
    assert member.attempts == 2


def no_thread(_: threading.Thread) -> None:
    raise NO_THREAD


def handle_into(done: list[int]) -> Worker[int]:
    def handle(items: deque[int], _dropped: int) -> None:
        while items:
            done.append(items.popleft())

    return Worker("starved", handle, max_items=10)


def test_a_worker_handles_what_waits_as_soon_as_its_thread_can_be_started() -> None:
    done: list[int] = []
    worker = handle_into(done)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        worker.put(1)
        assert not worker.start_late()
    assert late_starts.is_any

    def is_done() -> bool:
        late_starts.retry()
        return done == [1]

    wait_until(is_done)
    assert not late_starts.is_any
    assert worker.stop(5) == 0


def test_a_worker_without_a_thread_stops_and_counts_what_it_gives_up() -> None:
    done: list[int] = []
    worker = handle_into(done)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        worker.put(1)
        assert worker.stop(5) == 1
        assert worker.unhandled == 0
        worker.put(2)
        worker.handle_here()
    assert done == [2]
    assert worker.stop(5) == 0


def test_that_the_program_is_ending_is_no_shortage_to_warn_of() -> None:
    news = News(lambda: 0.0)
    for error, level in (
        (RuntimeError("can't create new thread at interpreter shutdown"), logging.DEBUG),
        (NO_THREAD, logging.WARNING),
        (NO_THREAD, logging.INFO),
    ):
        short = shortage(error)
        assert short is not None
        assert news.level(short) == level
