"""Statecharts on different machines, talking over RabbitMQ: the networking plugin of miros.

::

    from miros_rabbitmq import NetworkedActiveObject, NetworkedFactory
"""

from .broker import LocalBroker
from .codec import Codec, Envelope
from .consumer import PikaTopicConsumer, SimplePikaTopicConsumer
from .exceptions import (
    AccessRefused,
    BackPressure,
    BrokerError,
    BrokerUnreachable,
    LocalBrokerError,
    MalformedKey,
    MessageRejected,
    MirosApiException,
    MirosRabbitMQError,
    NetworkStopped,
    PayloadRefused,
    RejectReason,
    SettingsError,
    TransmitError,
    UnknownHost,
    VhostNotFound,
)
from .framing import Delivery
from .json_codec import json_deserializer, json_serializer
from .lan import LocalAreaNetwork
from .life import SessionState
from .limits import Limits
from .nets import MirosNets
from .network import NetworkedActiveObject, NetworkedFactory
from .outcome import ProbeOutcome, ProbeResult, ScoutReport
from .peers import Peer, PeersChanged, PeerSource, PeerState
from .publisher import PikaTopicPublisher, PublisherStats, SimplePikaTopicPublisher
from .scout import RabbitScout
from .settings import DEFAULT_ROUTING_KEY, Settings
from .stats import DropReason, NetsStats, NetworkStats
from .tls import tls_from_environment
from .topology import Queue
from .urls import Address, AmqpUrl

__all__ = [
    "DEFAULT_ROUTING_KEY",
    "AccessRefused",
    "Address",
    "AmqpUrl",
    "BackPressure",
    "BrokerError",
    "BrokerUnreachable",
    "Codec",
    "Delivery",
    "DropReason",
    "Envelope",
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
    "PayloadRefused",
    "Peer",
    "PeerSource",
    "PeerState",
    "PeersChanged",
    "PikaTopicConsumer",
    "PikaTopicPublisher",
    "ProbeOutcome",
    "ProbeResult",
    "PublisherStats",
    "Queue",
    "RabbitScout",
    "RejectReason",
    "ScoutReport",
    "SessionState",
    "Settings",
    "SettingsError",
    "SimplePikaTopicConsumer",
    "SimplePikaTopicPublisher",
    "TransmitError",
    "UnknownHost",
    "VhostNotFound",
    "json_deserializer",
    "json_serializer",
    "tls_from_environment",
]
