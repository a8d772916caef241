"""The exceptions of pika, translated into words that a user can act on."""

from __future__ import annotations

import errno
import socket
import ssl
import traceback
from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions as amqp
import pytest
from pika.adapters.utils import connection_workflow as workflow

from miros_rabbitmq import faults
from miros_rabbitmq.amqp.parameters import translate
from miros_rabbitmq.exceptions import (
    AccessRefused,
    BrokerError,
    BrokerUnreachable,
    ClosedByBroker,
    MirosRabbitMQError,
    OutOfResources,
    UnknownHost,
    VhostNotFound,
)
from miros_rabbitmq.urls import Address, amqp_url

PASSWORD = "canary-password"
ADDRESS = Address("robot.local", 5673)
URL = amqp_url("marvin", PASSWORD, ADDRESS, "crossing")
PARAMETERS = pika.URLParameters(URL)

LOGIN_REFUSED = amqp.ConnectionClosedByBroker(
    403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
)
NO_VHOST = amqp.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost crossing not found")
VHOST_REFUSED = amqp.ConnectionClosedByBroker(
    530, "NOT_ALLOWED - access to vhost 'crossing' refused for user 'marvin'"
)
GOING_DOWN = amqp.ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced closure")


def at_connect(error: BaseException) -> Any:
    """What a failed socket becomes."""
    socket_error = workflow.AMQPConnectorSocketConnectError(error)
    return amqp.AMQPConnectionError(workflow.AMQPConnectionWorkflowFailed([socket_error]))


def at_transport(error: BaseException) -> Any:
    """What a failed TLS handshake becomes."""
    return workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorTransportSetupError(error)])


def at_handshake(error: BaseException) -> Any:
    """What a failed AMQP handshake becomes."""
    return workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorAMQPHandshakeError(error)])


def translated(error: BaseException) -> BrokerError:
    return translate(error, URL, PARAMETERS)


CASES: dict[str, tuple[BaseException, type[BrokerError], str]] = {
    "wrong password": (
        at_handshake(amqp.ProbableAuthenticationError(repr(LOGIN_REFUSED))),
        AccessRefused,
        "refuses the user 'marvin' or its password",
    ),
    "no such vhost": (
        at_handshake(amqp.ProbableAccessDeniedError(repr(NO_VHOST))),
        VhostNotFound,
        "has no virtual host 'crossing' for the user 'marvin'",
    ),
    "vhost not for this user": (
        at_handshake(amqp.ProbableAccessDeniedError(repr(VHOST_REFUSED))),
        VhostNotFound,
        "rabbitmqctl set_permissions",
    ),
    "no permission": (
        amqp.ChannelClosedByBroker(403, "ACCESS_REFUSED - configure access to exchange refused"),
        AccessRefused,
        "does not give 'marvin' the permissions",
    ),
    "nothing listens": (
        at_connect(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
        BrokerUnreachable,
        "nothing listens at robot.local:5673: start RabbitMQ",
    ),
    "unknown name": (
        at_connect(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
        UnknownHost,
        "'robot.local' is not known here (Name or service not known)",
    ),
    "unknown name, raised at once": (
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        UnknownHost,
        "check its spelling",
    ),
    "connect timed out": (
        at_connect(TimeoutError("TCP connection attempt timed out: 'robot.local'/(...)")),
        BrokerUnreachable,
        "timed out",
    ),
    "no route": (
        at_connect(OSError(errno.EHOSTUNREACH, "No route to host")),
        BrokerUnreachable,
        "No route to host",
    ),
    "handshake timed out": (
        workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorStackTimeout("Timeout")]),
        BrokerUnreachable,
        "no usable connection to robot.local:5673",
    ),
    "not AMQP": (
        at_handshake(amqp.IncompatibleProtocolError("StreamLostError: ('Transport EOF',)")),
        BrokerUnreachable,
        "does not speak AMQP 0-9-1",
    ),
    "bad certificate": (
        at_transport(ssl.SSLCertVerificationError(1, "certificate verify failed")),
        BrokerUnreachable,
        "TLS with robot.local:5673 failed",
    ),
    "stream lost": (
        amqp.StreamLostError("Stream connection lost: ConnectionResetError(104, 'reset by peer')"),
        BrokerUnreachable,
        "the connection to robot.local:5673 broke",
    ),
    "heartbeat": (
        amqp.AMQPHeartbeatTimeout("No activity or too many missed heartbeats in the last 10 s"),
        BrokerUnreachable,
        "missed heartbeats",
    ),
    "broker stopped": (GOING_DOWN, ClosedByBroker, "CONNECTION_FORCED"),
    "queue of another shape": (
        amqp.ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg 'x-expires'"),
        ClosedByBroker,
        "inequivalent arg",
    ),
    "broker stopped while authenticating": (
        at_handshake(amqp.ProbableAuthenticationError(repr(GOING_DOWN))),
        ClosedByBroker,
        "CONNECTION_FORCED",
    ),
    "broker stopped while opening the vhost": (
        at_handshake(amqp.ProbableAccessDeniedError(repr(GOING_DOWN))),
        ClosedByBroker,
        "CONNECTION_FORCED",
    ),
    "connection lost while authenticating": (
        at_handshake(amqp.ProbableAuthenticationError("StreamLostError: ('Transport EOF',)")),
        BrokerUnreachable,
        "Transport EOF",
    ),
    "an exception without a word": (
        amqp.AMQPConnectionError(),
        BrokerUnreachable,
        "AMQPConnectionError;",
    ),
}


@pytest.mark.parametrize(("error", "kind", "words"), CASES.values(), ids=CASES)
def test_an_exception_of_pika_becomes_one_of_our_errors(
    error: BaseException, kind: type[BrokerError], words: str
) -> None:
    fault = translated(error)
    assert type(fault) is kind
    assert words in str(fault)
    assert str(ADDRESS) in str(fault) or ADDRESS.host in str(fault)
    assert fault.host == str(ADDRESS)


@pytest.mark.parametrize(("error", "kind", "words"), CASES.values(), ids=CASES)
def test_no_error_shows_the_password(
    error: BaseException, kind: type[BrokerError], words: str
) -> None:
    fault = translated(error)
    shown = "".join(traceback.format_exception(fault)) + repr(fault) + repr(vars(fault))
    assert PASSWORD not in shown


def test_every_error_is_a_connection_error_of_this_package() -> None:
    for error, _, _ in CASES.values():
        fault = translated(error)
        assert isinstance(fault, MirosRabbitMQError)
        assert isinstance(fault, ConnectionError)


def test_the_first_of_several_errors_that_explains_something_counts() -> None:
    refused = workflow.AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "refused"))
    late = workflow.AMQPConnectorSocketConnectError(TimeoutError("timed out"))
    for attempts in ([refused, late], [late, refused]):
        fault = translated(workflow.AMQPConnectionWorkflowFailed(attempts))
        assert "nothing listens" in str(fault)


def test_errors_that_contain_each_other_cause_no_endless_loop() -> None:
    handshake = workflow.AMQPConnectorAMQPHandshakeError(GOING_DOWN)
    failed = workflow.AMQPConnectionWorkflowFailed([handshake])
    handshake.exception = failed
    assert isinstance(translated(failed), BrokerUnreachable)


CLOSINGS: dict[str, tuple[int, str, str]] = {
    "the chart took nothing for too long": (
        406,
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used:"
        " 1800000 ms. This timeout value can be configured, see consumers doc guide to learn more",
        "was not acknowledged within 1800000 ms: for so long the chart, or its callback",
    ),
    "the same in other words": (
        406,
        "PRECONDITION_FAILED - consumer of queue 'q' timed out",
        "They come again, and nothing is lost",
    ),
    "too large a message": (
        406,
        "PRECONDITION_FAILED - message size 150000 is larger than configured max size 100000",
        "refuses a message of 150000 bytes, as its max_message_size is 100000",
    ),
    "another exchange of the name": (
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'miros.mesh' in vhost '/': "
        "received 'topic' but current is 'fanout'",
        "already has the exchange 'miros.mesh', declared with another type",
    ),
    "another queue of the name": (
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'orders' in vhost '/': "
        "received the value '1' of type 'signedint' but current is none",
        "already has the queue 'orders', declared with another x-expires",
    ),
    "an unknown tag": (
        406,
        "PRECONDITION_FAILED - unknown delivery tag 7",
        "does not know a message that was acknowledged",
    ),
    "something else": (406, "PRECONDITION_FAILED - whatever", "refuses what it was asked for"),
    "shut down": (
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        "is being stopped or restarted",
    ),
    "a deleted user": (
        320,
        "CONNECTION_FORCED - user 'marvin' was deleted",
        "rabbitmqctl add_user marvin PASSWORD",
    ),
    "a deleted vhost": (
        320,
        "CONNECTION_FORCED - vhost 'crossing' is deleted",
        "has closed the virtual host crossing",
    ),
    "closed by somebody": (
        320,
        "CONNECTION_FORCED - Closed via management plugin",
        "somebody has closed it",
    ),
    "a deleted exchange": (
        404,
        "NOT_FOUND - no exchange 'miros.mesh' in vhost '/'",
        "has no exchange 'miros.mesh' any more",
    ),
    "a deleted queue": (404, "NOT_FOUND - no queue 'q' in vhost '/'", "has no queue 'q' any more"),
    "a node of a cluster is down": (
        404,
        "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor or home node "
        "'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible",
        "start that node",
    ),
    "a locked queue": (
        405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'",
        "lets only another connection use the queue 'q'",
    ),
    "a routing key that is not for this user": (
        403,
        "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'miros.mesh' in vhost '/' refused"
        " for user 'marvin'",
        "set_topic_permissions",
    ),
    "too large": (311, "CONTENT_TOO_LARGE - too large", "refuses a message for its size"),
    "a limit of the user": (
        530,
        "NOT_ALLOWED - connection refused for user 'marvin': user connection limit (1) is reached",
        "allows marvin only 1 connections",
    ),
    "a limit of the node": (
        530,
        "NOT_ALLOWED - connection refused: node connection limit (9) is reached",
        "raise connection_max",
    ),
    "a limit of the vhost": (
        530,
        "NOT_ALLOWED - access to vhost 'crossing' refused for user 'marvin': connection limit (2) "
        "is reached",
        "rabbitmqctl clear_vhost_limits -p crossing",
    ),
    "a vhost in trouble": (
        530,
        "NOT_ALLOWED - access to vhost 'crossing' refused for user 'marvin': vhost 'crossing' is "
        "down",
        "rabbitmqctl restart_vhost -p crossing",
    ),
    "a limit of channels": (
        530,
        "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)",
        "raise channel_max",
    ),
    "out of something": (506, "RESOURCE_ERROR - no memory", "has run out of something"),
    "not implemented": (540, "NOT_IMPLEMENTED - active=false", "RabbitMQ 3.8 or newer"),
    "deprecated": (
        541,
        "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.",
        "see deprecated_features",
    ),
    "an error of its own": (541, "INTERNAL_ERROR - timeout", "has an error of its own"),
    "a code of the future": (599, "NEW - {of a new kind}", "(599, NEW - {of a new kind})"),
    **{
        f"malformed, {code}": (code, f"{name} - {{x}}", "is there a proxy in between")
        for code, name in (
            (402, "INVALID_PATH"),
            (501, "FRAME_ERROR"),
            (502, "SYNTAX_ERROR"),
            (503, "COMMAND_INVALID"),
            (504, "CHANNEL_ERROR"),
            (505, "UNEXPECTED_FRAME"),
        )
    },
}


@pytest.mark.parametrize(("code", "text", "words"), CLOSINGS.values(), ids=CLOSINGS)
@pytest.mark.parametrize("kind", [amqp.ChannelClosedByBroker, amqp.ConnectionClosedByBroker])
def test_what_a_broker_closes_with_is_worded_as_what_it_is(
    kind: Any, code: int, text: str, words: str
) -> None:
    fault = translated(kind(code, text))
    assert words in str(fault)
    assert "firewall" not in str(fault)
    assert type(fault) is (AccessRefused if code == 403 else ClosedByBroker)
    assert fault.host == str(ADDRESS)


@pytest.mark.parametrize("limit", ["user", "node", "vhost"])
def test_a_limit_of_connections_is_no_wrong_vhost(limit: str) -> None:
    code, text, words = CLOSINGS[f"a limit of the {limit}"]
    refused = amqp.ProbableAccessDeniedError(repr(amqp.ConnectionClosedByBroker(code, text)))
    fault = translated(at_handshake(refused))
    assert type(fault) is ClosedByBroker
    assert words in str(fault)


REMEDIES: dict[str, tuple[Callable[[], BrokerError], str]] = {
    "unknown host": (lambda: faults.unknown_host(ADDRESS), "give its IP address"),
    "nothing listens": (lambda: faults.nothing_listens(ADDRESS), "rabbitmq-server"),
    "no answer": (lambda: faults.no_answer(ADDRESS, "it timed out"), "firewall"),
    "not RabbitMQ": (lambda: faults.not_rabbitmq(ADDRESS, "HTTP"), "correct the port"),
    "TLS": (lambda: faults.tls_failed(ADDRESS, "expired"), "certificate"),
    "access": (lambda: faults.access_refused(ADDRESS, "marvin"), "rabbitmqctl add_user marvin"),
    "permission": (
        lambda: faults.permission_refused(ADDRESS, "marvin", "no configure"),
        "rabbitmqctl set_permissions",
    ),
    "vhost": (
        lambda: faults.vhost_not_found(ADDRESS, "crossing", "marvin"),
        "rabbitmqctl add_vhost crossing",
    ),
    "queue held": (lambda: faults.queue_held(ADDRESS), "stop that program"),
    "queue in use": (lambda: faults.queue_held(ADDRESS, 33.0), "after 33 s a new queue"),
    "queue taken": (lambda: faults.queue_taken(ADDRESS, "it was deleted"), "change the password"),
}


@pytest.mark.parametrize(("make", "remedy"), REMEDIES.values(), ids=REMEDIES)
def test_every_error_says_where_and_what_to_do(
    make: Callable[[], BrokerError], remedy: str
) -> None:
    fault = make()
    assert remedy in str(fault)
    assert ADDRESS.host in str(fault)
    assert fault.host == "robot.local:5673"


@pytest.mark.parametrize("name", ["a b", "x; reboot", "$(reboot)", "it's"])
def test_a_command_that_is_recommended_can_be_pasted_safely(name: str) -> None:
    for fault in (
        faults.access_refused(ADDRESS, name),
        faults.permission_refused(ADDRESS, name, ""),
        faults.vhost_not_found(ADDRESS, name, name),
    ):
        command = str(fault).partition("run: ")[2]
        assert f" {name}" not in command


def test_a_shortage_of_this_process_is_no_fault_of_the_network() -> None:
    error = amqp.StreamLostError("Stream connection lost: MemoryError()", MemoryError())
    fault = translate(error, URL, PARAMETERS)
    assert isinstance(fault.__cause__, OutOfResources)
    assert "memory" in str(fault)
    assert "firewall" not in str(fault)
