"""RabbitMQ's own ways to carry messages on, federation and shovel, carry ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from miros import Event

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.broker.node_files import find_rabbitmq

from ..helpers import wait_until
from .charts import arguments_for, make_active_object, running

KEY = Fernet.generate_key()
PAGE = Path(__file__).parents[2] / "docs" / "topology.rst"

START = """
    [code:add_pathz(Path) || Path <- filelib:wildcard("{plugins}")], application:load({name}),
    rabbit_boot_steps:run_boot_steps([{name}]), application:ensure_all_started({name}).
"""
"""Starts a plugin of a node that runs, as ``rabbitmq-plugins enable`` does. A private node has none
of the plugins in its own folder."""


def link_patterns() -> list[str]:
    """What the page lets the user of a federation's link configure, write and read."""
    command = re.search(
        r"set_permissions -p / carrier \\\s+'(.+)' '(.+)' '(.+)'", PAGE.read_text(encoding="utf-8")
    )
    assert command is not None
    return list(command.groups())


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
            if "carrier" not in broker_a.ctl("list_users"):
                broker_a.ctl("add_user", "carrier", stdin="c4rry\n")
            broker_a.ctl("set_permissions", "-p", "/", "carrier", *link_patterns())
            upstream = json.dumps({"uri": f"amqp://carrier:c4rry@{broker_a.address}"})
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
