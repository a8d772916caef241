"""What RabbitMQ says when it closes a channel or a connection, in words a user can act on.

A table of the reply codes of AMQP 0-9-1 (https://www.rabbitmq.com/amqp-0-9-1-reference#constants)
and of the texts of RabbitMQ 3.8 to 4.3. The texts quote names, which may read like anything, so
each pattern begins at the beginning of the text. A text has at most 255 bytes, and RabbitMQ cuts
it where long names make it longer; so the end of a text may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from . import faults
from .exceptions import AccessRefused, BrokerError, ClosedByBroker, VhostNotFound
from .foreign import hidden, in_words
from .remedies import add_user, add_vhost, delete_exchange, rabbitmqctl, set_permissions
from .urls import Address


class Closing(NamedTuple):
    """One way to close, and what it means.

    Args:
        code: the reply code.
        pattern: the beginning of the reply text, without the code's name.
        wording: what it means and what to do. ``{0}`` and so on stand for the pattern's groups;
            the other names are those of `_fields`.
        kind: the error; an `AccessRefused` and a `VhostNotFound` end a start.
    """

    code: int
    pattern: str
    wording: str
    kind: type[BrokerError] = ClosedByBroker


_ANYTHING = ""
_MALFORMED = (
    "has understood something otherwise than it was meant ({text}): is there a proxy in between "
    "that changes what passes? If not, please report it, with the versions of RabbitMQ and pika"
)
_QUEUES = (
    "has no room for the queue {0!r}, as its limit of {1} queues is reached: each chart needs one, "
    "and one more for each snoop that it watches. "
)

_TABLE = (
    Closing(311, _ANYTHING, "refuses a message for its size ({text}): transmit smaller events"),
    Closing(
        320,
        "(?:broker forced connection closure with reason '?shutdown|Node was put into maintenance)",
        "is being stopped or restarted ({text}): start it again if that was not meant. What was "
        "sent and not confirmed is sent again",
    ),
    Closing(
        320,
        r"user '.*' (?:is|was) deleted",
        "has no user {user!r} any more: correct rabbit_user, or on the broker run as root: "
        "{add_user}",
    ),
    Closing(
        320,
        "vhost '.*' is deleted",
        "has no virtual host {vhost!r} any more: correct rabbit_vhost, or on the broker run as "
        "root: "
        "{add_vhost}",
    ),
    Closing(
        320,
        "vhost '.*' is down",
        "has trouble with the virtual host {vhost!r}: on the broker run as root: {restart_vhost}",
    ),
    Closing(
        320,
        _ANYTHING,
        "has been told to close the connection ({text}): somebody has closed it (rabbitmqctl "
        "close_connection, or the management page), or stops the broker. It is opened again",
    ),
    Closing(
        403,
        "(?:[a-z]+ )?access to topic '(.*?)' in exchange '(.*?)'",
        "does not let {user!r} use the routing key {0!r}: on the broker run as root: "
        "{topic_permissions} "
        "(or write patterns that fit your routing keys and 'miros.listener'; "
        "{list_topic_permissions} shows those it has)",
        AccessRefused,
    ),
    Closing(
        403,
        "(?:[a-z]+ )?access to (?:exchange|queue) '(.*?)'",
        "does not give {user!r} the permissions it needs ({text}): on the broker run as root: "
        "{permissions} (that replaces those it has, which {list_permissions} shows)",
        AccessRefused,
    ),
    Closing(
        403,
        r"(\w+) name '(.*?)' contains reserved prefix",
        "keeps names that begin with 'amq.' for itself: give the {0} {1!r} another name",
        AccessRefused,
    ),
    Closing(
        403,
        "queue '(.*?)' in vhost '.*?' in exclusive use",
        "has another consumer of the queue {0!r}, and one of the two demands to be the only one: "
        "stop the other program, or name another queue",
    ),
    Closing(
        403,
        _ANYTHING,
        "does not let {user!r} do what it needs ({text}): on the broker run as root: {permissions}",
        AccessRefused,
    ),
    Closing(
        404,
        "no exchange '(.*?)'",
        "has no exchange {0!r} any more: somebody has deleted it; it is declared anew",
    ),
    Closing(
        404,
        "queue '(.*?)'.* is down or inaccessible",
        "does not reach the queue {0!r}, as the node of its cluster that has the queue is down "
        "({text}): start that node",
    ),
    Closing(
        404,
        "no queue '(.*?)'",
        "has no queue {0!r} any more: somebody has deleted it, or it has expired; it is declared "
        "anew, and what waited in it is lost",
    ),
    Closing(
        405,
        ".*?queue '(.*?)'",
        "lets only another connection use the queue {0!r} ({text}): stop the other program, or "
        "name another queue",
    ),
    Closing(
        406,
        r"delivery acknowledgement on channel \d+ timed out. Timeout value used: (\d+) ms",
        "has taken back what it had delivered, because it was not acknowledged within {0} ms: for "
        "so long the chart, or its callback, has taken no more events. They come again, and "
        "nothing is lost. Leave work that takes so long to another thread, or raise "
        "consumer_timeout in rabbitmq.conf there",
    ),
    Closing(
        406,
        "delivery acknowledgement|consumer.* timed out",
        "has taken back what it had delivered, because it was not acknowledged in time ({text}): "
        "for so long the chart, or its callback, has taken no more events. They come again, and "
        "nothing is lost. Leave work that takes so long to another thread, or raise "
        "consumer_timeout in rabbitmq.conf there",
    ),
    Closing(
        406,
        r"message size (\d+) .*?(?:max size|limit) (\d+)",
        "refuses a message of {0} bytes, as its max_message_size is {1}: transmit smaller events, "
        "or raise max_message_size in rabbitmq.conf there",
    ),
    Closing(
        406,
        "inequivalent arg '(.*?)' for queue '(.*?)'",
        "already has the queue {1!r}, declared with another {0} ({text}): name another queue, or "
        "on the broker run as root, which loses what waits in it: {delete_queue}",
    ),
    Closing(
        406,
        "inequivalent arg '(.*?)' for exchange '(.*?)'",
        "already has the exchange {1!r}, declared with another {0} ({text}): another program has "
        "made it, or replaced ours. Give another rabbit_vhost, or on the broker run as root: "
        "{delete_exchange} (it is then declared anew)",
    ),
    Closing(
        406,
        r"cannot declare queue '(.*?)': queue limit in cluster \((\d+)\)",
        _QUEUES + "Raise cluster_queue_limit in rabbitmq.conf there",
    ),
    Closing(
        406,
        r"cannot declare queue '(.*?)': queue limit in vhost '.*?' \((\d+)\)",
        _QUEUES
        + "On the broker, as root, raise max-queues with rabbitmqctl set_vhost_limits, or run: "
        "{clear_vhost_limits}",
    ),
    Closing(
        406,
        r"cannot declare exchange '(.*?)'.*: exchange limit of (\d+) is reached",
        "has no room for the exchange {0!r}, as its limit of {1} exchanges is reached: raise "
        "cluster_exchange_limit in rabbitmq.conf there",
    ),
    Closing(
        406,
        "unknown delivery tag",
        "does not know a message that was acknowledged ({text}): everything that was not "
        "acknowledged before comes again. Please report it",
    ),
    Closing(406, _ANYTHING, "refuses what it was asked for ({text}): {see_log}"),
    Closing(
        506,
        _ANYTHING,
        "has run out of something ({text}): rabbitmq-diagnostics status, as root, shows it there",
    ),
    Closing(
        530,
        r"(?:connection refused for user '.*': )?user connection limit(?: \((\d+)\))?",
        "allows {user!r} only {connections}: a chart needs one for what it receives and one for "
        "each broker that it sends to, and more for snoops. On the broker run as root: "
        "{clear_connections}",
    ),
    Closing(
        530,
        r"(?:connection refused: )?node connection limit(?: \((\d+)\))?",
        "allows only {connections}: raise connection_max in rabbitmq.conf there",
    ),
    Closing(
        530,
        r"access to vhost '.*' refused for user '.*': (?:vhost )?connection limit(?: \((\d+)\))",
        "allows only {connections} to the virtual host {vhost!r}: on the broker, as root, raise "
        "max-connections with rabbitmqctl set_vhost_limits, or run: {clear_vhost_limits}",
    ),
    Closing(
        530,
        "access to vhost '.*' refused for user '.*': vhost '.*' is down",
        "has trouble with the virtual host {vhost!r}: on the broker run as root: {restart_vhost}",
    ),
    Closing(
        530,
        "access to vhost '.*' refused for user '.*': (.+)",
        "does not open the virtual host {vhost!r} now ({0}): {see_log}",
    ),
    Closing(
        530,
        "access to vhost '.*' refused for user '.*'$",
        "does not let {user!r} use the virtual host {vhost!r}: correct rabbit_vhost, or on the "
        "broker run as root: {permissions}",
        VhostNotFound,
    ),
    Closing(
        530,
        "vhost .* not found$",
        "has no virtual host {vhost!r} for the user {user!r}: correct rabbit_vhost, or on the "
        "broker run as root: {add_vhost}",
        VhostNotFound,
    ),
    Closing(
        530,
        "number of channels opened for user '.*' has reached",
        "allows {user!r} no more channels ({text}): on the broker run as root: {clear_channels}",
    ),
    Closing(
        530,
        "number of channels opened on node",
        "allows no more channels ({text}): raise channel_max_per_node in rabbitmq.conf there",
    ),
    Closing(
        530,
        "number of channels opened",
        "allows no more channels on a connection ({text}): raise channel_max in rabbitmq.conf "
        "there; a chart needs 2",
    ),
    Closing(
        530,
        r"negotiated (\w+)",
        "does not agree on {0} ({text}): set {0} in rabbitmq.conf there to its default",
    ),
    Closing(
        530,
        "reached maximum .* of consumers per channel",
        "allows no consumer on a channel ({text}): raise consumer_max_per_channel in rabbitmq.conf "
        "there",
    ),
    Closing(
        540, _ANYTHING, "cannot do what it was asked for ({text}): is it RabbitMQ 3.8 or newer?"
    ),
    Closing(
        541,
        ".*(?:deprecated|not permitted)",
        "does not allow a feature of RabbitMQ ({text}): permit it in rabbitmq.conf there "
        "(deprecated_features.permit.NAME = true)",
    ),
    Closing(
        541,
        _ANYTHING,
        "has an error of its own ({text}): {see_log}. What was sent and not confirmed is sent "
        "again",
    ),
    *(Closing(code, _ANYTHING, _MALFORMED) for code in (402, 501, 502, 503, 504, 505)),
)

_ACCESS_REFUSED = 403
_CODE_NAME = re.compile(r"^[A-Z_]+(?: - |$)")
_LOGIN = re.compile(r"Login was refused|\S+ login refused")


def closed_by_broker(
    address: Address, code: int, text: str, user: str, vhost: str, secret: str = ""
) -> BrokerError:
    """The broker has closed a channel or a connection, and said why.

    Args:
        address: the broker's.
        code: the reply code of AMQP.
        text: the reply text of RabbitMQ.
        user: the user of the connection.
        vhost: its virtual host.
        secret: the password, which whatever answers there may repeat.
    """
    secret = hidden(secret, user)
    said = _CODE_NAME.sub("", text, count=1)
    if code == _ACCESS_REFUSED and _LOGIN.match(said):
        return faults.access_refused(address, user, vhost)
    for closing in _TABLE:
        found = re.match(closing.pattern, said, re.DOTALL) if closing.code == code else None
        if found is None:
            continue
        groups = [in_words(group or "so many", secret=secret) for group in found.groups()]
        fields = dict(_fields(user, vhost, in_words(text, secret=secret), groups))
        return closing.kind(f"{address} {closing.wording.format(*groups, **fields)}", str(address))
    return ClosedByBroker(
        f"{address} has closed the connection ({code}, {in_words(text, secret=secret)}): "
        f"{_SEE_LOG}",
        str(address),
    )


_SEE_LOG = (
    "see the log of RabbitMQ there (as root: journalctl -u rabbitmq-server, or /var/log/rabbitmq)"
)


def _fields(user: str, vhost: str, text: str, groups: list[str]) -> Iterator[tuple[str, str]]:
    """What a wording may name."""
    yield from {
        "user": user,
        "vhost": vhost,
        "text": text,
        "see_log": _SEE_LOG,
        "add_user": add_user(user, vhost),
        "add_vhost": add_vhost(user, vhost),
        "permissions": set_permissions(user, vhost, groups[0] if groups else ""),
        "connections": f"{groups[0]} connection{'s' * (groups[0] != '1')}" if groups else "",
        "list_permissions": rabbitmqctl("list_user_permissions", user),
        "list_topic_permissions": rabbitmqctl("list_topic_permissions", vhost=vhost),
        "restart_vhost": rabbitmqctl("restart_vhost", vhost=vhost),
        "clear_vhost_limits": rabbitmqctl("clear_vhost_limits", vhost=vhost),
        "clear_connections": rabbitmqctl("clear_user_limits", user, "max-connections"),
        "clear_channels": rabbitmqctl("clear_user_limits", user, "max-channels"),
    }.items()
    if len(groups) > 1:
        yield (
            "topic_permissions",
            rabbitmqctl("set_topic_permissions", user, groups[1], ".*", ".*", vhost=vhost),
        )
        yield "delete_queue", rabbitmqctl("delete_queue", groups[1], vhost=vhost)
        yield "delete_exchange", delete_exchange(groups[1], vhost)
