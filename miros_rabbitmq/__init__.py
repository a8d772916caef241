"""Statecharts on different machines, talking over RabbitMQ: the networking plugin of miros.

::

    from miros_rabbitmq import NetworkedActiveObject, NetworkedFactory
"""

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
from .nets.chart_watch import Stuck
from .nets.nets import MirosNets
from .nets.settings import DEFAULT_ROUTING_KEY, Settings
from .nets.stats import DropReason, NetsStats, NetworkStats
from .problems import DeliveryProblem, ProblemKind
from .tls import tls_from_environment
from .urls import Address, AmqpUrl
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
