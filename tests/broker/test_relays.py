"""RabbitMQ's own ways to carry messages on, federation and shovel, carry ours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.broker.node_files import find_rabbitmq

from ..helpers import wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()

START = """
    [code:add_pathz(Path) || Path <- filelib:wildcard("{plugins}")], application:load({name}),
    rabbit_boot_steps:run_boot_steps([{name}]), application:ensure_all_started({name}).
"""
"""Starts a plugin of a node that runs, as ``rabbitmq-plugins enable`` does. A private node has none
of the plugins in its own folder."""


@pytest.fixture(params=["federation", "shovel"])
def relay(request: pytest.FixtureRequest, broker_a: LocalBroker) -> Iterator[LocalBroker]:
    """A broker to which what is published at ``broker_a`` is carried on."""
    installed = find_rabbitmq().parent
    name = f"rabbitmq_{request.param}"
    if not list((installed / "plugins").glob(f"{name}-*/ebin")):
        pytest.skip(f"{name} is not where this test looks for it")
    with LocalBroker("127.0.0.78", password=broker_a.password) as far:
        far.ctl("eval", START.format(plugins=f"{installed}/plugins/*/ebin", name=name))
        source = str(broker_a.url())
        if request.param == "federation":
            upstream = json.dumps({"uri": source})
            policy = json.dumps({"federation-upstream-set": "all"})
            far.ctl("set_parameter", "federation-upstream", "near", upstream)
            far.ctl("set_policy", "--apply-to", "exchanges", "relay", r"^miros\.mesh$", policy)
        else:
            shovel = {
                "src-protocol": "amqp091",
                "src-uri": source,
                "src-exchange": "miros.mesh",
                "src-exchange-key": "#",
                "dest-protocol": "amqp091",
                "dest-uri": str(far.url()),
                "dest-exchange": "miros.mesh",
            }
            far.ctl("set_parameter", "shovel", "near", json.dumps(shovel))
        yield far


def test_events_come_over_a_relay_once_and_in_order(
    relay: LocalBroker, broker_a: LocalBroker
) -> None:
    """Each chart knows its own broker only; then the sender knows both, and all comes twice."""
    near = arguments_for(broker_a, key=KEY, accept_unknown_peers=False)
    far = arguments_for(relay, key=KEY, accept_unknown_peers=False)
    one, _ = make_active_object("one", **near)
    two, heard = make_active_object("two", **far)
    with running(one, two):
        # The relay is there when something has come over it.
        def comes_over() -> bool:
            one.transmit(Event(signal="FIRST"))
            return bool(heard.payloads("FIRST"))

        wait_until(comes_over, 60)
        for number in range(100):
            one.transmit(Event(signal="COUNT", payload=number))
        wait_until(lambda: len(heard.payloads("COUNT")) == 100, 30)
        assert heard.payloads("COUNT") == list(range(100))
        assert not two.nets.stats().mesh.rejected

    one, _ = make_active_object("one", **arguments_for(broker_a, relay, key=KEY))
    two, heard = make_active_object("two", **arguments_for(relay, broker_a, key=KEY))
    with running(one, two, peers=1):
        for number in range(100):
            one.transmit(Event(signal="COUNT", payload=number))
        # Duplicates are counted when they come, events are handled after that.
        wait_until(lambda: two.nets.stats().mesh.duplicates >= 100, 30)
        wait_until(lambda: len(heard.payloads("COUNT")) >= 100, 30)
        assert heard.payloads("COUNT") == list(range(100))
        assert two.nets.stats().mesh.gaps == 0
