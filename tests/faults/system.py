"""A system under fault: charts on brokers, each broker behind a proxy, one ledger for all.

Not a test. Tests, ``tools/faults.py`` and ``tools/soak.py`` build on it.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import BackPressure, Limits, LocalBroker, NetworkedActiveObject

from ..broker.charts import Record, listening, make_active_object
from ..helpers import scaled, wait_until
from .ledger import Ledger, Verdict
from .proxy import Direction, FaultProxy
from .sickness import Alarm, Impostor, RejectPublish, Sickness, ThinLink

HEARTBEAT_S = 2
"""Short, so that silence is noticed in 3 s; at the default of 10 s it is 15 s."""


BURST_EVENTS = 2_000
"""Many messages' worth, and what a backlog holds of several while a broker restarts."""


SICK_S = 6.0
"""The longest time for which a broker is sick."""


class Booked(Record):
    """What a chart of the system hears goes into the ledger, and is not kept."""

    def __init__(self, name: str, ledger: Ledger, work_s: float = 0.0) -> None:
        super().__init__()
        self._name = name
        self._ledger = ledger
        self._work_s = work_s

    def note(self, event: Event) -> None:
        if event.signal_name == "NUMBER":
            sender, number = event.payload
            self._ledger.deliver(self._name, sender, number)
            if self._work_s:
                time.sleep(self._work_s)


class UnexpectedErrors(logging.Handler):
    """Keeps what the package logs as an error of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "unexpected error" in record.getMessage():
            self.found.append(self.format(record))


class Talker:
    """A thread that transmits the ledger's numbers from one chart, steadily, until it is stopped.

    Args:
        pause_s: between two events; 0 sends as fast as ``transmit`` returns.
    """

    def __init__(self, chart: NetworkedActiveObject, ledger: Ledger, pause_s: float) -> None:
        self._chart, self._ledger, self.pause_s = chart, ledger, pause_s
        self._stop = threading.Event()
        self.gate = threading.Lock()
        """The talker pauses while somebody holds this lock."""
        self.burst = 0
        """Events to send at once, in addition to the steady ones."""
        self.slowest_s = 0.0
        self.refused = 0
        self._thread = threading.Thread(target=self._talk, name=f"talker of {chart.name}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _talk(self) -> None:
        while not self._stop.wait(self.pause_s):
            with self.gate:
                burst, self.burst = self.burst, 0
                self.send(1 + burst)

    def send(self, count: int) -> None:
        name = self._chart.name
        for _ in range(count):
            number = self._ledger.attempt(name)
            began_s = time.monotonic()
            try:
                self._chart.transmit(Event(signal="NUMBER", payload=(name, number)))
            except BackPressure:
                self.refused += 1
                continue
            finally:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            self._ledger.accept(name)


class System:
    """Charts, brokers and proxies, by number: the broker of chart n is n modulo their number."""

    def __init__(
        self,
        brokers: Sequence[LocalBroker],
        proxies: Sequence[FaultProxy],
        charts: int,
        limits: Limits,
        **extras: Any,
    ) -> None:
        self.brokers, self.proxies = brokers, proxies
        self.errors = UnexpectedErrors()
        names = [f"chart{number}" for number in range(charts)]
        self.ledger = Ledger(names)
        addresses = [str(proxy.address) for proxy in proxies]
        key = Fernet.generate_key()
        self.charts: list[NetworkedActiveObject] = []
        for number, name in enumerate(names):
            own = proxies[number % len(proxies)].address
            chart, _ = make_active_object(
                name,
                rabbit_user=brokers[0].user,
                rabbit_password=brokers[0].password,
                mesh_encryption_key=key,
                rabbit_host=own.host,
                rabbit_port=own.port,
                addresses=addresses,
                start_timeout=scaled(10),
                limits=limits,
                **extras,
            )
            chart.record = Booked(name, self.ledger)
            self.charts.append(chart)
        self.talkers = [Talker(chart, self.ledger, 0.005) for chart in self.charts]

    @contextmanager
    def running(self, *, talking: bool = True) -> Iterator[System]:
        logger = logging.getLogger("miros_rabbitmq")
        logger.addHandler(self.errors)
        try:
            with ExitStack() as stack:
                for chart in self.charts:
                    stack.callback(chart.stop)
                    chart.start_at(listening)
                for chart in self.charts:
                    assert chart.nets.wait_for_peers(len(self.proxies) - 1, scaled(25))
                if talking:
                    for talker in self.talkers:
                        stack.callback(talker.stop)
                        talker.start()
                yield self
        finally:
            logger.removeHandler(self.errors)

    def is_talking(self) -> bool:
        """The second chart has handled some of what the first has sent."""
        return self.ledger.reached("chart0", "chart1") > 20

    def wait_until_consumed_again(self, timeout: float = 60.0) -> float:
        """Wait until every chart has handled something of every other that is sent from now on.

        Returns:
            the seconds that took.
        """
        began_s = time.monotonic()
        marks = {name: self.ledger.accepted(name) for name in self.ledger.names}
        missing = [(a, b) for a in marks for b in marks if a != b]
        wait_until(
            lambda: all(self.ledger.reached(a, b) > marks[a] + 1 for a, b in missing),
            timeout,
            lambda: f"consumed again; {self.describe()}",
        )
        return time.monotonic() - began_s

    @contextmanager
    def quiet(self, timeout: float = 60.0) -> Iterator[Verdict]:
        """Let all talkers pause, and wait until all that was accepted has been handled."""
        with ExitStack() as stack:
            for talker in self.talkers:
                stack.enter_context(talker.gate)
            wait_until(self.ledger.is_settled, timeout, lambda: f"settled; {self.describe()}")
            yield self.ledger.verdict()

    def settle(self, timeout: float = 60.0) -> Verdict:
        """Stop talking, wait for what is under way, and close the books."""
        for talker in self.talkers:
            talker.stop()
        wait_until(self.ledger.is_settled, timeout, lambda: f"settled; {self.describe()}")
        # A second copy would come with events that are sent later.
        self.flush()
        return self.ledger.verdict()

    def uncounted(self) -> int:
        """Events that are lost, and that their sender has not counted as dropped; to be 0.

        A sender counts an event once for each broker; it is lost for every receiver there.
        """
        found = 0
        for sender in self.charts:
            brokers = sender.nets.stats().mesh.brokers
            for number, receiver in enumerate(self.charts):
                if receiver is not sender:
                    at = str(self.proxies[number % len(self.proxies)].address)
                    lost = self.ledger.account(sender.name, receiver.name).lost
                    found += max(0, lost - brokers[at].dropped)
        return found

    def flush(self) -> None:
        """Wait until every broker has confirmed everything, and so is connected."""
        assert all(chart.nets.flush(scaled(25)) for chart in self.charts), self.describe()

    def describe(self) -> str:
        """The ledger, and where each chart stands."""
        lines = [str(self.ledger.verdict())]
        for chart in self.charts:
            mesh = chart.nets.stats().mesh
            states = {at: (one.state.value, one.waiting) for at, one in mesh.brokers.items()}
            lines.append(
                f"{chart.name}: consumer {mesh.consumer.value}, {states}, gaps {mesh.gaps}, "
                f"unrouted {mesh.unrouted}, duplicates {mesh.duplicates}, dropped "
                f"{ {reason.name: n for reason, n in mesh.dropped.items() if n} }"
            )
        return "\n  ".join(lines)


@contextmanager
def system(
    hosts: Sequence[str], *, charts: int, limits: Limits | None = None, **extras: Any
) -> Iterator[System]:
    """Private brokers on these loopback addresses, their proxies, and charts, not yet started."""
    password = secrets.token_urlsafe()
    with ExitStack() as stack:
        brokers = [LocalBroker(host, password=password) for host in hosts]
        for broker in brokers:
            stack.callback(broker.stop)
        with ThreadPoolExecutor(len(brokers)) as pool:
            list(pool.map(lambda broker: broker.start(scaled(60)), brokers))
        proxies = [stack.enter_context(FaultProxy(one.host, one.address)) for one in brokers]
        limits = limits or Limits(heartbeat_s=HEARTBEAT_S)
        yield System(brokers, proxies, charts, limits, **extras)


class Storm:
    """Random faults from a seed: kills, cuts, silence, delay, thin links, frozen brokers.

    Args:
        victim: it runs.
        seed: chooses the faults.
        kills: whether brokers are killed, too.
        sick: whether a broker also gets sick for so long that events are dropped for it: by a thin
            link, an alarm, silence of confirms, a queue that rejects. Other faults lose nothing.
    """

    def __init__(
        self, victim: System, seed: int, *, kills: bool = True, sick: bool = False
    ) -> None:
        self._system = victim
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        faults: list[tuple[int, Callable[[], None]]] = [
            (6, self.cut),
            (3, self._cut_again_while_it_recovers),
            (2, self._freeze),
            (1, self._delay),
            (1, self._throttle),
            (1, self._silence),
            (2, self._cut_on_the_nodes_side),
        ]
        if kills:
            faults += [(4, self.kill), (1, self._kill_all), (1, self._restart)]
        if sick:
            faults += [
                (2, self._thin_link),
                (2, self._alarm),
                (2, self._silence_of_confirms),
                (1, self._reject_publish),
                (1, self._lossy_link),
            ]
        self._weights = [weight for weight, _ in faults]
        self._faults = [fault for _, fault in faults]

    def strike(self) -> tuple[str, float]:
        """One fault, and its end; returns its name and how long until events were consumed."""
        fault = self._random.choices(self._faults, self._weights)[0]
        name = fault.__name__.strip("_").replace("_", " ")
        if self._random.random() < 0.3:  # in the middle of a burst
            for talker in self._system.talkers:
                talker.burst = BURST_EVENTS
        # At any moment of the traffic.
        threading.Event().wait(self._random.uniform(0, 0.3))
        try:
            fault()
        finally:
            for proxy in self._system.proxies:
                proxy.heal()
        self.counts[name] += 1
        return name, self._system.wait_until_consumed_again()

    def _one(self, many: Sequence[Any]) -> Any:
        return self._random.choice(many)

    def cut(self) -> None:
        """Cut what passes one of the proxies."""
        self._one(self._system.proxies).cut()

    def _cut_again_while_it_recovers(self) -> None:
        proxy = self._one(self._system.proxies)
        proxy.cut_at(*(self._random.randrange(1, 900) for _ in range(4)))
        proxy.cut()
        wait_until(lambda: not proxy.cuts_pending, 15)

    def kill(self) -> None:
        """Kill one of the brokers, and restart it with its data."""
        broker = self._one(self._system.brokers)
        broker.kill()
        broker.restart(scaled(60))

    def _kill_all(self) -> None:
        for broker in self._system.brokers:
            broker.kill()
        with ThreadPoolExecutor(len(self._system.brokers)) as pool:
            list(pool.map(lambda one: one.restart(scaled(60)), self._system.brokers))

    def _restart(self) -> None:
        self._one(self._system.brokers).restart(scaled(60))

    def _freeze(self) -> None:
        broker = self._one(self._system.brokers)
        broker.pause()
        threading.Event().wait(self._random.uniform(0.1, 1.0))
        broker.resume()

    def _delay(self) -> None:
        self._one(self._system.proxies).slow_down(delay_s=self._random.uniform(0.01, 0.2))
        threading.Event().wait(1.0)

    def _throttle(self) -> None:
        self._one(self._system.proxies).slow_down(bytes_a_second=self._random.uniform(5e4, 5e5))
        threading.Event().wait(1.0)

    def _silence(self) -> None:
        proxy = self._one(self._system.proxies)
        proxy.silence(*self._random.choice([(one,) for one in Direction] + [tuple(Direction)]))
        threading.Event().wait(self._random.uniform(0.5, 4.0))

    def _cut_on_the_nodes_side(self) -> None:
        self._one(self._system.proxies).cut_on_the_nodes_side()

    def _thin_link(self) -> None:
        self._be_sick(ThinLink(self._one(self._system.proxies), self._random.uniform(2e3, 32e3)))

    def _alarm(self) -> None:
        self._be_sick(Alarm(self._one(self._system.brokers)))

    def _silence_of_confirms(self) -> None:
        self._be_sick(Impostor(self._one(self._system.proxies)))

    def _reject_publish(self) -> None:
        self._be_sick(RejectPublish(self._one(self._system.brokers)))

    def _lossy_link(self) -> None:
        self._one(self._system.proxies).slow_down(delay_s=0.05, jitter_s=0.05, loss=0.05)
        threading.Event().wait(2.0)

    def _be_sick(self, sickness: Sickness) -> None:
        sickness.begin()
        try:
            threading.Event().wait(self._random.uniform(1.0, SICK_S))
        finally:
            sickness.end()
