"""Statecharts on different machines, talking over RabbitMQ: the networking plugin of miros.

::

    from miros_rabbitmq import NetworkedActiveObject, NetworkedFactory
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .exceptions import (
    AccessRefused,
    BackPressure,
    BrokerError,
    BrokerUnreachable,
    ClosedByBroker,
    LocalBrokerError,
    MalformedKey,
    MessageRejected,
    MirosApiException,
    MirosRabbitMQError,
    NetworkStopped,
    OutOfResources,
    PayloadRefused,
    QueueTaken,
    RejectReason,
    SettingsError,
    TransmitError,
    UnknownHost,
    VhostNotFound,
)
from .failures import Failure
from .limits import Limits
from .problems import DeliveryProblem, ProblemKind
from .tls import tls_from_environment
from .urls import Address, AmqpUrl

if TYPE_CHECKING:
    from .amqp.consumer import PikaTopicConsumer, SimplePikaTopicConsumer
    from .amqp.link_state import SessionState
    from .amqp.message_io import Delivery
    from .amqp.publisher import PikaTopicPublisher, SimplePikaTopicPublisher
    from .amqp.receiver import ConsumerStats
    from .amqp.sender import PublisherStats
    from .amqp.topology import Queue
    from .broker.local_broker import LocalBroker
    from .chart.networked import NetworkedActiveObject, NetworkedFactory
    from .delivery.slowness import Condition
    from .discovery.lan import LocalAreaNetwork
    from .discovery.outcome import ProbeOutcome, ProbeResult, ScoutReport
    from .discovery.probe import ProbeLimits
    from .discovery.roster import Peer, PeersChanged, PeerSource, PeerState
    from .discovery.scout import RabbitScout
    from .nets.chart_watch import Stuck
    from .nets.nets import MirosNets
    from .nets.settings import DEFAULT_ROUTING_KEY, Settings
    from .nets.stats import DropReason, NetsStats, NetworkStats
    from .wire.codec import Codec
    from .wire.envelope import Envelope
    from .wire.json_codec import json_deserializer, json_serializer

__version__ = "1.0.0"
"""The only place that says it: pyproject.toml and the site's conf.py have it from here."""

__all__ = [
    "DEFAULT_ROUTING_KEY",
    "AccessRefused",
    "Address",
    "AmqpUrl",
    "BackPressure",
    "BrokerError",
    "BrokerUnreachable",
    "ClosedByBroker",
    "Codec",
    "Condition",
    "ConsumerStats",
    "Delivery",
    "DeliveryProblem",
    "DropReason",
    "Envelope",
    "Failure",
    "Limits",
    "LocalAreaNetwork",
    "LocalBroker",
    "LocalBrokerError",
    "MalformedKey",
    "MessageRejected",
    "MirosApiException",
    "MirosNets",
    "MirosRabbitMQError",
    "NetsStats",
    "NetworkStats",
    "NetworkStopped",
    "NetworkedActiveObject",
    "NetworkedFactory",
    "OutOfResources",
    "PayloadRefused",
    "Peer",
    "PeerSource",
    "PeerState",
    "PeersChanged",
    "PikaTopicConsumer",
    "PikaTopicPublisher",
    "ProbeLimits",
    "ProbeOutcome",
    "ProbeResult",
    "ProblemKind",
    "PublisherStats",
    "Queue",
    "QueueTaken",
    "RabbitScout",
    "RejectReason",
    "ScoutReport",
    "SessionState",
    "Settings",
    "SettingsError",
    "SimplePikaTopicConsumer",
    "SimplePikaTopicPublisher",
    "Stuck",
    "TransmitError",
    "UnknownHost",
    "VhostNotFound",
    "__version__",
    "json_deserializer",
    "json_serializer",
    "tls_from_environment",
]

# A program needs few of these, and one that only catches errors or reads help needs none: each is
# imported when it is first asked for, in the thread that asks (PEP 562). Below the root, modules
# import what they need at once: a program that has its classes may give up its rights, or be short
# of descriptors.
_LATER = {
    "Codec": "wire.codec",
    "Condition": "delivery.slowness",
    "ConsumerStats": "amqp.receiver",
    "DEFAULT_ROUTING_KEY": "nets.settings",
    "Delivery": "amqp.message_io",
    "DropReason": "nets.stats",
    "Envelope": "wire.envelope",
    "LocalAreaNetwork": "discovery.lan",
    "LocalBroker": "broker.local_broker",
    "MirosNets": "nets.nets",
    "NetsStats": "nets.stats",
    "NetworkStats": "nets.stats",
    "NetworkedActiveObject": "chart.networked",
    "NetworkedFactory": "chart.networked",
    "Peer": "discovery.roster",
    "PeerSource": "discovery.roster",
    "PeerState": "discovery.roster",
    "PeersChanged": "discovery.roster",
    "PikaTopicConsumer": "amqp.consumer",
    "PikaTopicPublisher": "amqp.publisher",
    "ProbeLimits": "discovery.probe",
    "ProbeOutcome": "discovery.outcome",
    "ProbeResult": "discovery.outcome",
    "PublisherStats": "amqp.sender",
    "Queue": "amqp.topology",
    "RabbitScout": "discovery.scout",
    "ScoutReport": "discovery.outcome",
    "SessionState": "amqp.link_state",
    "Settings": "nets.settings",
    "SimplePikaTopicConsumer": "amqp.consumer",
    "SimplePikaTopicPublisher": "amqp.publisher",
    "Stuck": "nets.chart_watch",
    "json_deserializer": "wire.json_codec",
    "json_serializer": "wire.json_codec",
}
"""Where each of the other public names is. Type checkers see the imports above instead."""

if not TYPE_CHECKING:  # it would make every name one of this package, even a misspelt one

    def __getattr__(name: str) -> Any:
        """Import a public name, and keep it; called for what is not here yet."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Name what is here, and what will be."""
    return sorted({*globals(), *__all__})
