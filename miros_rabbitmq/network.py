"""The path from which programs for release 0.2 import, kept for them."""

from typing import NoReturn

from .amqp.consumer import PikaTopicConsumer, SimplePikaTopicConsumer
from .amqp.publisher import PikaTopicPublisher, SimplePikaTopicPublisher
from .chart.networked import NetworkedActiveObject, NetworkedFactory
from .discovery.lan import LocalAreaNetwork
from .exceptions import MirosApiException
from .nets.nets import MirosNets
from .older import NETWORK, say_what_is_gone

__all__ = [
    "LocalAreaNetwork",
    "MirosApiException",
    "MirosNets",
    "NetworkedActiveObject",
    "NetworkedFactory",
    "PikaTopicConsumer",
    "PikaTopicPublisher",
    "SimplePikaTopicConsumer",
    "SimplePikaTopicPublisher",
]


def __getattr__(name: str) -> NoReturn:
    """Say what has taken the place of a name that is gone; called for those that are not here."""
    try:
        say_what_is_gone("miros_rabbitmq.network", name, NETWORK)
    except AttributeError as error:
        if name in NETWORK:
            # Of an AttributeError, "from ... import ..." would not show the text.
            raise ImportError(str(error)) from None
        raise
