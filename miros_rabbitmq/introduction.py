"""Whether a program introduces itself as a RabbitMQ that may be sent a password.

AMQP sends the password in ``Connection.StartOk``, the answer to ``Connection.Start``. So every
connection, of a probe as of a link, looks at what it has got before it answers. Pure: others have
read the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import faults
from .exceptions import BrokerError
from .foreign import in_words, text_of
from .greeting import expects_tls, sounds_like
from .urls import Address

MOST_BYTES = 16_384
"""A frame may have so many bytes before both sides have agreed on a size. RabbitMQ's ``Start`` has
about 500; the specification allows 4,096 (AMQP 0-9-1, 4.2.3)."""

LEAST_FRAME_MAX = 4_096
"""Both sides have to accept frames of this size (AMQP 0-9-1, 4.2.3)."""


_MOST_SAID = 60
"""The most characters of a name that a program gives itself."""


class Unfit(Exception):
    """What answers must not be sent a password, or cannot be used.

    Attributes:
        detail: what was seen.
        fault: makes the error.
    """

    def __init__(self, detail: str, fault: Callable[[Address], BrokerError] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        usual = partial(faults.not_rabbitmq, detail=detail)
        self.fault: Callable[[Address], BrokerError] = fault or usual


def check_start(properties: object, mechanisms: object, secret: str = "") -> str:
    """Check what a program says of itself in ``Connection.Start``.

    Args:
        properties: the table of its properties.
        mechanisms: how it lets clients log in: names with spaces between.
        secret: the password, which somebody who has it already may say here.

    Returns:
        its name and version.

    Raises:
        Unfit: it is not RabbitMQ, or it takes no password.
    """
    table = properties if isinstance(properties, dict) else {}
    product = text_of(table.get("product", ""))
    if product != "RabbitMQ":
        raise Unfit(f"it speaks AMQP and calls itself {in_words(product, _MOST_SAID, secret)!r}")
    if not isinstance(table.get("capabilities", {}), dict):
        raise Unfit("it says that it is RabbitMQ, and its capabilities are no table")
    accepted = text_of(mechanisms).split()
    if "PLAIN" not in accepted:
        others = in_words(", ".join(accepted), _MOST_SAID, secret) or "nothing"
        raise Unfit(
            f"it accepts no password (PLAIN), only {others}",
            partial(faults.no_passwords, mechanisms=others),
        )
    return f"RabbitMQ {in_words(text_of(table.get('version', '')), _MOST_SAID, secret)}".strip()


def check_frame_max(frame_max: int) -> None:
    """Check the size of a frame that ``Connection.Tune`` proposes; 0 stands for any size.

    Raises:
        Unfit: nothing fits into such frames.
    """
    if 0 < frame_max < LEAST_FRAME_MAX:
        raise Unfit(f"it proposes frames of at most {frame_max:,} bytes")


def foreign(address: Address, greeting: bytes, secret: str = "") -> BrokerError:
    """Word what answers with bytes that are not AMQP 0-9-1.

    Args:
        address: where.
        greeting: the first of them.
        secret: the password.
    """
    if expects_tls(greeting):
        return faults.wants_tls(address)
    return faults.not_rabbitmq(
        address, sounds_like(greeting, secret) or "it hangs up without a word"
    )
