"""What release 0.2 had and this one has not: which name takes its place, for errors that say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

_OWN = "it ran inside, and is not needed any more"
_PARTS = "import what you use of it from miros_rabbitmq"
_STATS = "nets.stats() shows what it does"
_BY_ITSELF = "the chart does it by itself"

NETWORK: Mapping[str, str] = {
    "AnsiColors": "a terminal gets colours by itself; NO_COLOR in the environment turns them off",
    "CacheFileChart": _OWN,
    "LanChart": "use RabbitScout of miros_rabbitmq",
    "LanRecceChart": "use RabbitScout of miros_rabbitmq",
    "LoadEnvironmentalVariables": "read os.environ yourself, and give the arguments by name",
    "ManNetChart": "write a hosts file, or give addresses=",
    "MirosNetsInterface": "its methods are those of the networked classes",
    "PikaTopicPublisherMaker": "use PikaTopicPublisher of miros_rabbitmq",
    "ProducerFactoryChart": _OWN,
    "RabbitConsumerScoutChart": "use RabbitScout of miros_rabbitmq",
    "RabbitHelper": "use AmqpUrl of miros_rabbitmq, or this_url() of a chart",
    "RabbitHelper2": "use AmqpUrl of miros_rabbitmq, or this_url() of a chart",
}
"""Names of the module ``network``."""

NETS: Mapping[str, str] = {
    "broadcast_spy": "use snoop_scribble of the chart",
    "broadcast_trace": "use snoop_scribble of the chart",
    "build_mesh_consumer": _BY_ITSELF,
    "build_snoop_consumers": _BY_ITSELF,
    "change_mesh_encyption_key": "use change_mesh_encryption_key",
    "change_spy_encyption_key": "use change_snoop_spy_encryption_key",
    "change_trace_encyption_key": "use change_snoop_trace_encryption_key",
    "mesh": _STATS,
    "name": "use name of the chart",
    "scout": "use other_urls, or a RabbitScout",
    "snoop": _STATS,
    "start_threads": "use start, or start_at of the chart",
    "stop_threads": "use stop",
    "this": "use this_url",
    "update_producers": _BY_ITSELF,
}
"""Attributes of `MirosNets`."""

LAN: Mapping[str, str] = {
    "candidate_ip_addresses": "use addresses",
    "fill_arp_table": "use sweep",
    "get_ipv4_network": "use interface.network",
    "get_working_ip_address": "use this.address",
    "ip_addresses_on_lan": "use other.addresses",
    "ip_addresses_on_this_machine": "use this.address",
    "netmask_on_this_machine": "use interface.network",
}
"""Attributes of `LocalAreaNetwork`."""


def say_what_is_gone(owner: str, name: str, gone: Mapping[str, str]) -> NoReturn:
    """Raise what Python raises for an attribute that is not there; name what to use instead.

    Args:
        owner: what has no such attribute.
        name: the attribute.
        gone: the attributes that there were, and what to use instead.

    Raises:
        AttributeError: always.
    """
    text = f"{owner} has no attribute {name!r}"
    if name in gone:
        text = f"{owner} has no {name} since release 1: {gone[name]}"
    raise AttributeError(text)
