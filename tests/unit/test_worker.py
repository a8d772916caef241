"""A queue and its thread: in order, nothing dropped silently, and nobody waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import pytest

from miros_rabbitmq.worker import Worker
from tests.helpers import scaled, wait_until


class Recorder:
    """Handles items by noting them, and blocks at those it is told to."""

    def __init__(self) -> None:
        self.rounds: list[tuple[list[int], int]] = []
        self.reached = threading.Event()
        self.released = threading.Event()
        self.released.set()

    def __call__(self, items: deque[int], dropped: int) -> None:
        self.reached.set()
        assert self.released.wait(scaled(10))
        self.rounds.append((list(items), dropped))

    @property
    def handled(self) -> list[int]:
        return [item for items, _ in self.rounds for item in items]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def worker(recorder: Recorder) -> Iterator[Worker[int]]:
    worker = Worker("worker under test", recorder, max_items=5)
    yield worker
    recorder.released.set()
    worker.stop(scaled(5))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "worker under test"]


def test_it_has_a_thread_from_the_first_item_to_the_stop(
    worker: Worker[int], recorder: Recorder
) -> None:
    assert not threads()
    worker.put(1)
    assert len(threads()) == 1
    worker.put(2)
    worker.stop(scaled(5))
    assert not threads()
    assert recorder.handled == [1, 2]


def test_an_item_after_a_stop_starts_another_thread(
    worker: Worker[int], recorder: Recorder
) -> None:
    for item in range(3):
        worker.put(item)
        worker.stop(scaled(5))
    assert recorder.handled == [0, 1, 2]


def test_items_that_wait_are_handled_together_and_in_order(
    worker: Worker[int], recorder: Recorder
) -> None:
    recorder.released.clear()
    worker.put(0)
    assert recorder.reached.wait(scaled(20))
    for item in (1, 2, 3):
        worker.put(item)
    recorder.released.set()
    assert worker.drain(scaled(20))
    assert recorder.rounds == [([0], 0), ([1, 2, 3], 0)]


def test_beyond_the_limit_the_oldest_is_dropped_given_back_and_counted(
    worker: Worker[int], recorder: Recorder
) -> None:
    recorder.released.clear()
    worker.put(0)
    assert recorder.reached.wait(scaled(20))
    assert [list(worker.put(item)) for item in range(1, 9)] == [[]] * 5 + [[1], [2], [3]]
    recorder.released.set()
    assert worker.drain(scaled(20))
    assert recorder.rounds == [([0], 0), ([4, 5, 6, 7, 8], 3)]
    worker.put(9)
    assert worker.drain(scaled(20))
    assert recorder.rounds[-1] == ([9], 0)


def test_beyond_a_limit_in_bytes_as_many_of_the_oldest_are_dropped_but_never_the_newest(
    recorder: Recorder,
) -> None:
    worker = Worker("worker under test", recorder, max_items=5, max_bytes=100)
    recorder.released.clear()
    worker.put(0, 1_000)
    assert recorder.reached.wait(scaled(20))
    sizes = [40, 40, 20, 1, 70, 0, 0, 0, 0, 500, 101]
    dropped = [list(worker.put(item, size)) for item, size in enumerate(sizes, 1)]
    assert dropped == [[], [], [], [1], [2], [], [], [3], [4], [5, 6, 7, 8, 9], [10]]
    recorder.released.set()
    assert worker.drain(scaled(20))
    assert recorder.rounds == [([0], 0), ([11], 10)]
    assert list(worker.put(12, 99)) == [], "what was handled no longer counts"
    worker.stop(scaled(5))


def test_a_drain_ends_when_earlier_items_are_handled_or_its_time_is_over(
    worker: Worker[int], recorder: Recorder
) -> None:
    assert worker.drain(0.0), "nothing was put"
    recorder.released.clear()
    worker.put(0)
    assert not worker.drain(0.01)
    recorder.released.set()
    assert worker.drain(scaled(20))
    assert recorder.handled == [0]


def test_the_thread_itself_does_not_wait_for_itself() -> None:
    drained: list[bool] = []
    done = threading.Event()

    def handle(_items: deque[int], _dropped: int) -> None:
        drained.append(own.drain(scaled(20)))
        own.stop(scaled(5))
        done.set()

    own = Worker("worker under test", handle, max_items=5)
    own.put(1)
    assert done.wait(scaled(20))
    assert drained == [False]
    wait_until(lambda: not threads())


def test_a_worker_that_rests_collects_items_but_holds_up_neither_drain_nor_stop(
    recorder: Recorder,
) -> None:
    worker = Worker("worker under test", recorder, max_items=100, pause_s=scaled(60))
    worker.put(0)
    wait_until(lambda: recorder.handled == [0])
    for item in (1, 2, 3):
        worker.put(item)
    assert worker.drain(scaled(20))
    assert recorder.rounds == [([0], 0), ([1, 2, 3], 0)]
    worker.put(4)
    worker.stop(scaled(5))
    assert not threads()
    assert recorder.handled == [0, 1, 2, 3, 4]


def test_items_of_many_threads_are_all_handled_in_the_order_of_each(recorder: Recorder) -> None:
    worker = Worker("worker under test", recorder, max_items=100_000, pause_s=0.0005)

    def put(thread: int) -> None:
        for number in range(2_000):
            worker.put(thread * 10_000 + number)

    posting = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in posting:
        thread.start()
    for thread in posting:
        thread.join()
    assert worker.drain(scaled(10))
    worker.stop(scaled(5))
    for thread_number in range(4):
        mine = [item for item in recorder.handled if item // 10_000 == thread_number]
        assert mine == [thread_number * 10_000 + number for number in range(2_000)]


def test_a_stop_that_gives_up_says_how_many_items_are_never_handled() -> None:
    may_go_on, handled = threading.Event(), list[int]()

    def handle(items: deque[int], _dropped: int) -> None:
        while items:
            item = items.popleft()
            may_go_on.wait(scaled(30))
            handled.append(item)

    worker = Worker("gives up", handle, max_items=100)
    for number in range(10):
        worker.put(number)
    wait_until(lambda: worker.stop(0.01) or worker.unhandled == 10)
    may_go_on.set()
    wait_until(lambda: len(handled) == 1)
    assert worker.stop(scaled(5)) == 0
    assert handled == [0], "nothing is called after a stop, but for what was under way"
    worker.put(10)
    wait_until(lambda: handled == [0, 10])
    assert worker.stop(scaled(5)) == 0


def test_the_next_item_is_handled_even_if_one_has_ended_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda what: raised.append(what.exc_value))
    handled: list[int] = []

    def handle(items: deque[int], _dropped: int) -> None:
        item = items.popleft()
        if item == 0:
            raise SystemError
        handled.append(item)

    worker = Worker("worker under test", handle, max_items=5)
    worker.put(0)
    wait_until(lambda: raised and not threads())
    assert worker.unhandled == 0
    worker.put(1)
    assert worker.drain(scaled(10))
    assert worker.stop(scaled(10)) == 0
    assert handled == [1]
    assert [type(error) for error in raised] == [SystemError]
