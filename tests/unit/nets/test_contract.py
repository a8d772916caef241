"""What the networked classes promise before they have touched any network."""

from __future__ import annotations

import base64
import inspect
import os
import socket
import subprocess
import threading
from typing import Any, NoReturn

import netifaces
import pytest
from miros import ActiveObject, Event, Factory, return_status, signals, spy_on

from miros_rabbitmq import (
    LocalAreaNetwork,
    MirosNets,
    NetworkedActiveObject,
    NetworkedFactory,
    RabbitScout,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
)
from miros_rabbitmq.amqp.envelopes import Admission, EnvelopeTaker
from miros_rabbitmq.amqp.link_state import SessionState
from miros_rabbitmq.amqp.sinks import WorkerSink
from miros_rabbitmq.chart.fifo import ChartFifo
from miros_rabbitmq.exceptions import (
    MirosApiException,
    NetworkStopped,
    PayloadRefused,
    RejectReason,
    SettingsError,
)
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.nets.node import Phase
from miros_rabbitmq.wire.codec import Codec
from miros_rabbitmq.wire.envelope import MESH, SNOOP_TRACE, Envelope
from tests.helpers import scaled, wait_until
from tests.leaks import Holdings
from tests.wire import Forger

KEY = base64.urlsafe_b64encode(bytes(range(32)))
OTHER_KEY = base64.urlsafe_b64encode(bytes(32))

NETWORKED = [NetworkedActiveObject, NetworkedFactory]
URL = "amqp://user:password@127.0.0.2:5672/%2F"

CONTRACT = [
    "name",
    "rabbit_user",
    "rabbit_password",
    "mesh_encryption_key",
    "tx_routing_key",
    "rx_routing_key",
    "snoop_spy_encryption_key",
    "snoop_trace_encryption_key",
]


class Listener:
    """The smallest object that can be on the network."""

    name = "listener"

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def post_fifo(self, event: Event) -> None:
        self.heard.append(event)


def nets_of(miros_object: Any = None, **extras: Any) -> MirosNets:
    extras.setdefault("addresses", ["127.0.0.2"])
    extras.setdefault("rabbit_host", "127.0.0.2")
    return MirosNets(miros_object or Listener(), "user", "password", KEY, **extras)


def as_if_started(nets: MirosNets) -> MirosNets:
    """Networks that run without any broker: events go nowhere."""
    nets.node.phase = Phase.RUNNING
    nets.node.pid = os.getpid()
    return nets


@pytest.fixture
def nothing_may_be_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a constructor touched the network, or started a thread or a process")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for function in ("interfaces", "gateways", "ifaddresses"):
        monkeypatch.setattr(netifaces, function, refuse)


# Construction.


@pytest.mark.usefixtures("nothing_may_be_touched")
@pytest.mark.parametrize("make", NETWORKED)
def test_a_chart_touches_nothing_when_it_is_made(make: Any) -> None:
    before = Holdings.now()
    charts = [
        make("chart", "user", "password", KEY),
        make("chart", "user", "password", KEY, addresses=["127.0.0.2"], rabbit_host="127.0.0.2"),
        make("chart", "user", "password", KEY, interface="eth7", rabbit_host="no.such.host"),
    ]
    for chart in charts:
        chart.enable_snoop_trace()
        chart.enable_snoop_spy_no_color()
        assert "stopped" in repr(chart.nets)
    assert Holdings.now().since(before) == []


@pytest.mark.usefixtures("nothing_may_be_touched")
def test_no_other_public_class_touches_anything_when_it_is_made() -> None:
    before = Holdings.now()
    made = [
        nets_of(),
        LocalAreaNetwork(),
        RabbitScout("user", "password"),
        SimplePikaTopicPublisher(URL, "exchange", "key"),
        SimplePikaTopicConsumer(URL, "exchange", "key", on_message=print),
    ]
    assert Holdings.now().since(before) == []
    assert made[-1].state is SessionState.NEW  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", NETWORKED)
def test_the_constructors_arguments_are_in_the_order_of_the_contract(make: Any) -> None:
    parameters = inspect.signature(make).parameters
    named, others = list(parameters.values())[:8], list(parameters.values())[8:]
    assert [parameter.name for parameter in named] == CONTRACT
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in named)
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in others)
    for optional in CONTRACT[4:]:
        assert parameters[optional].default is None


@pytest.mark.parametrize("make", NETWORKED)
def test_all_of_them_may_be_given_by_position(make: Any) -> None:
    chart = make("chart", "user", "password", KEY, "tx.key", "rx.#", OTHER_KEY, [KEY, OTHER_KEY])
    settings = chart.nets.settings
    assert (settings.rabbit_user, settings.rabbit_password) == ("user", "password")
    assert (settings.tx_key, settings.rx_key) == ("tx.key", "rx.#")
    assert settings.mesh_keys == (KEY,)
    assert settings.spy_keys == (OTHER_KEY,)
    assert settings.trace_keys == (KEY, OTHER_KEY)


@pytest.mark.parametrize("make", NETWORKED)
def test_the_old_spellings_are_accepted_and_no_value_may_be_given_twice(make: Any) -> None:
    chart = make("chart", "user", "password", mesh_encyption_key=KEY)
    assert chart.nets.settings.mesh_keys == (KEY,)
    with pytest.raises(TypeError, match="mesh_encryption_key was given twice"):
        make("chart", "user", "password", KEY, mesh_encyption_key=KEY)
    with pytest.raises(TypeError, match="mesh_encryption_key is missing"):
        make("chart", "user", "password")
    with pytest.raises(TypeError, match="unknown keyword rabit_host="):
        make("chart", "user", "password", KEY, rabit_host="host")
    with pytest.raises(SettingsError, match="rabbit_port"):
        make("chart", "user", "password", KEY, rabbit_port=0)


@pytest.mark.parametrize("make", NETWORKED)
def test_a_chart_has_its_name_its_networks_and_its_lan(make: Any) -> None:
    chart = make("chart", "user", "password", KEY, addresses=["127.0.0.2"], rabbit_host="127.0.0.2")
    assert chart.name == "chart"
    assert isinstance(chart.nets, MirosNets)
    assert isinstance(chart.lan, LocalAreaNetwork)
    assert chart.lan is chart.nets.lan
    assert isinstance(chart.queue, ChartFifo)
    assert chart.queue is chart.locking_deque
    assert str(chart.this_url()) == "amqp://user:password@127.0.0.2:5672/%2F"


def test_each_class_is_the_one_of_miros_of_the_same_kind() -> None:
    assert issubclass(NetworkedActiveObject, ActiveObject)
    assert issubclass(NetworkedFactory, Factory)


@pytest.mark.parametrize("make", NETWORKED)
@pytest.mark.parametrize("name", [None, "", 7, b"chart", "n" * 256])
def test_a_name_is_a_text_of_1_to_255_characters(make: Any, name: Any) -> None:
    with pytest.raises(MirosApiException, match="a name of 1 to 255 characters"):
        make(name, "user", "password", KEY)


def test_an_object_without_a_name_is_refused() -> None:
    class Nameless:
        def post_fifo(self, event: Event) -> None: ...

    with pytest.raises(MirosApiException, match="name"):
        nets_of(Nameless())
    with pytest.raises(MirosApiException, match="name"):
        nets_of(object())


def test_an_object_that_takes_no_events_is_refused() -> None:
    class Deaf:
        name = "deaf"

    class Wrong(Deaf):
        post_fifo = "not a method"

    for miros_object in (Deaf(), Wrong()):
        with pytest.raises(MirosApiException, match="deaf has no method post_fifo"):
            nets_of(miros_object)


# Before the start.


def test_transmit_before_the_start_is_refused_with_the_remedy() -> None:
    with pytest.raises(NetworkStopped, match=r"listener .*start it first"):
        nets_of().transmit(Event(signal="BEFORE_START"))
    chart = NetworkedActiveObject("chart", "user", "password", KEY)
    with pytest.raises(NetworkStopped, match=r"chart .*start it first"):
        chart.transmit(Event(signal="BEFORE_START"))


@pytest.mark.parametrize("thing", [None, "SIGNAL", 7, ("SIGNAL", None), Event], ids=repr)
def test_transmit_refuses_anything_that_is_not_an_event(thing: Any) -> None:
    with pytest.raises(MirosApiException, match="transmit takes a miros Event, not a"):
        nets_of().transmit(thing)


@pytest.mark.parametrize("make", NETWORKED)
def test_stop_before_the_start_does_nothing_and_may_come_twice(make: Any) -> None:
    chart = make("chart", "user", "password", KEY, addresses=["127.0.0.2"], rabbit_host="127.0.0.2")
    chart.stop()
    chart.stop()
    with make("chart", "user", "password", KEY, addresses=["127.0.0.2"]) as entered:
        assert entered.name == "chart"


def test_before_the_start_all_counters_are_zero() -> None:
    stats = nets_of().stats()
    for network in (stats.mesh, stats.snoop_trace, stats.snoop_spy):
        assert network.transmitted == network.sent == network.received == network.gaps == 0
        assert network.consumer is SessionState.NEW
        assert not any(network.rejected.values())
    assert stats.mesh.enabled
    assert not stats.snoop_trace.enabled
    assert not stats.snoop_spy.enabled


def test_the_snoops_are_off_and_are_switched_each_on_its_own() -> None:
    nets = nets_of()
    assert not nets.snoops.trace.enabled
    assert not nets.snoops.spy.enabled
    nets.enable_snoop_trace()
    assert nets.snoops.trace.enabled
    assert not nets.snoops.spy.enabled
    nets.enable_snoop_spy(colour=False)
    nets.disable_snoop_trace()
    assert nets.snoops.spy.enabled
    assert not nets.snoops.trace.enabled


def test_there_is_nobody_to_wait_for_before_the_start() -> None:
    assert nets_of().wait_for_peers(0, 0.0) is True
    assert nets_of().wait_for_peers(1, 0.001) is False
    assert nets_of().flush(0.0) is True


# What is transmitted.


def test_a_payload_that_others_would_refuse_is_refused_with_the_signals_name() -> None:
    nets = as_if_started(nets_of())
    with pytest.raises(PayloadRefused) as caught:
        nets.transmit(Event(signal="CARRIES_AN_OBJECT", payload=[Listener()]))
    text = str(caught.value)
    assert text.startswith("the event CARRIES_AN_OBJECT cannot be serialized")
    assert f"{Listener.__module__}.Listener" in text
    assert "allowed_classes=[Listener]" in text
    assert nets.stats().mesh.transmitted == 0


def test_an_event_larger_than_the_limit_is_refused() -> None:
    nets = as_if_started(nets_of())
    with pytest.raises(PayloadRefused, match=r"the event HEAVY is .*Limits\.event_bytes"):
        nets.transmit(Event(signal="HEAVY", payload=b"x" * 2**20))


@pytest.mark.parametrize("name", list(signals)[: signals.highest_inner_signal])
def test_an_inner_signal_of_miros_is_not_transmitted(name: str) -> None:
    nets = as_if_started(nets_of())
    with pytest.raises(PayloadRefused, match=f"an inner signal of miros: {name}"):
        nets.transmit(Event(signal=name))


def test_a_forked_child_cannot_use_its_parents_networks() -> None:
    nets = as_if_started(nets_of())
    nets.node.pid = -1
    nets.node.disown()  # as every fork does
    with pytest.raises(NetworkStopped, match="before this process was forked"):
        nets.transmit(Event(signal="FROM_A_CHILD"))


# What is received.


def taken(nets: MirosNets, body: Any, *, key: bytes = KEY, network: str = MESH) -> EnvelopeTaker:
    """Have the node's mesh take a message of another node."""
    codec = nets.node.mesh.codec
    admission = Admission(bindings=["#"], admit=nets.node.events.admit)
    taker = EnvelopeTaker("mesh", MESH, codec, nets.node.events.sink, Limits(), admission)
    other = Codec(key)
    message = Forger(key, network).events(other, (1, body))
    taker.take(message._replace(exchange=MESH))
    assert isinstance(nets.node.events.sink, WorkerSink)
    nets.node.events.sink.stop(scaled(5))
    return taker


@pytest.mark.parametrize("name", list(signals)[: signals.highest_inner_signal])
def test_an_inner_signal_of_miros_is_never_accepted(name: str) -> None:
    listener = Listener()
    taker = taken(nets_of(listener), (name, None))
    assert taker.rejected == {RejectReason.INNER_SIGNAL: 1}
    assert listener.heard == []


@pytest.mark.parametrize("name", ["no\nname", "\x1b[2J", "S" * 256, ""], ids=repr)
def test_a_signal_with_a_name_that_cannot_be_shown_is_never_accepted(name: str) -> None:
    taker = taken(nets_of(), (name, None))
    assert set(taker.rejected) <= {RejectReason.SIGNAL_NAME, RejectReason.MALFORMED}
    assert taker.received == 0


def test_the_mesh_takes_its_own_events_alone() -> None:
    assert taken(nets_of(), ("GOOD", 1)).received == 1
    for taker, reason in (
        (taken(nets_of(), ("GOOD", 1), key=OTHER_KEY), RejectReason.NOT_AUTHENTIC),
        (taken(nets_of(), "a line", network=SNOOP_TRACE), RejectReason.NOT_AUTHENTIC),
        (taken(nets_of(), "a line"), RejectReason.MALFORMED),
        (taken(nets_of(), (7, None)), RejectReason.MALFORMED),
    ):
        assert taker.rejected == {reason: 1}


def receive(nets: MirosNets, name: str, payload: Any) -> None:
    """Deliver as if from the network; returns when the callback has returned."""
    events = nets.node.events
    envelope = Envelope(MESH, "a.key", "another", bytes(16), 1, 0, (name, payload))
    events.admit(envelope)
    events.sink.put(envelope, None)
    assert isinstance(events.sink, WorkerSink)
    events.sink.stop(scaled(5))


def test_an_event_from_the_network_is_posted_with_its_name_and_payload() -> None:
    listener = Listener()
    receive(nets_of(listener), "NEVER_HEARD_BEFORE", (1, 2))
    (event,) = listener.heard
    assert event.signal_name == "NEVER_HEARD_BEFORE"
    assert event.signal == signals.NEVER_HEARD_BEFORE
    assert event.payload == (1, 2)


def test_a_callback_takes_the_place_of_the_objects_own() -> None:
    listener, heard = Listener(), list[Event]()
    nets = nets_of(listener, on_mesh_rx=heard.append)
    receive(nets, "TO_A_CALLBACK", None)
    assert [event.signal_name for event in heard] == ["TO_A_CALLBACK"]
    assert listener.heard == []


# Secrets.


@pytest.mark.parametrize("make", NETWORKED)
def test_no_repr_shows_a_password_or_a_key(make: Any) -> None:
    chart = make("chart", "user", "canary-password", KEY, rabbit_host="127.0.0.2", addresses=[])
    shown = "".join(
        map(repr, (chart, chart.nets, chart.nets.settings, chart.this_url(), [chart.this_url()]))
    )
    assert "canary-password" not in shown
    assert KEY.decode() not in shown


# A chart that fails to start takes nothing with it.


def test_a_chart_whose_first_state_raises_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_chart: Any, event: Event) -> Any:
        raise RuntimeError("the first state is broken")

    chart = NetworkedActiveObject("chart", "user", "password", KEY)
    stopped = []
    monkeypatch.setattr(chart.nets, "start", lambda: None)
    monkeypatch.setattr(chart.nets, "stop", lambda: stopped.append(True))
    with pytest.raises(RuntimeError, match="the first state is broken"):
        chart.start_at(broken)
    assert stopped == [True]
    assert chart.thread is None


def test_a_start_that_is_refused_starts_no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise NetworkStopped("refused")

    def state(_chart: Any, event: Event) -> Any:
        raise AssertionError("the chart was started")

    chart = NetworkedActiveObject("chart", "user", "password", KEY)
    monkeypatch.setattr(chart.nets, "start", refuse)
    with pytest.raises(NetworkStopped, match="refused"):
        chart.start_at(state)
    assert chart.thread is None


# A second life.


def hearing(chart: Any, e: Event) -> Any:
    if e.signal == signals.HEARD:
        e.payload.set()
        return return_status.HANDLED
    chart.temp.fun = chart.top
    return return_status.SUPER


def test_a_chart_that_was_stopped_can_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chart = NetworkedActiveObject("chart", "user", "password", KEY)
    monkeypatch.setattr(chart.nets, "start", lambda: None)
    try:
        for _ in range(2):
            chart.start_at(spy_on(hearing))
            heard = threading.Event()
            chart.post_fifo(Event(signal="HEARD", payload=heard))
            wait_until(lambda: heard.is_set() or not chart.thread.is_alive())  # noqa: B023
            assert heard.is_set()
            chart.stop()
    finally:
        chart.stop()
