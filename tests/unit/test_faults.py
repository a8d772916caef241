"""The exceptions of pika, translated into words that a user can act on."""

from __future__ import annotations

import errno
import json
import re
import shlex
import socket
import ssl
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pika.exceptions as amqp
import pytest
from pika.adapters.utils import connection_workflow as workflow

from miros_rabbitmq import faults, remedies
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
from miros_rabbitmq.remedies import shell
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
        "has no virtual host 'crossing' for the user 'marvin': correct rabbit_vhost, or on the "
        "broker run as root: rabbitmqctl add_vhost crossing; rabbitmqctl set_permissions -p "
        "crossing "
        "marvin",
    ),
    "vhost not for this user": (
        at_handshake(amqp.ProbableAccessDeniedError(repr(VHOST_REFUSED))),
        VhostNotFound,
        "does not let 'marvin' use the virtual host 'crossing': correct rabbit_vhost, or on the "
        "broker run as root: rabbitmqctl set_permissions -p crossing marvin",
    ),
    "no permission": (
        amqp.ChannelClosedByBroker(403, "ACCESS_REFUSED - configure access to exchange 'x'..."),
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
    "no name server": (
        at_connect(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")),
        UnknownHost,
        "check the network of this machine and /etc/resolv.conf",
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
    "out of descriptors": (
        at_connect(OSError(errno.EMFILE, "Too many open files")),
        BrokerUnreachable,
        "ulimit -n",
    ),
    "out of memory": (MemoryError(), BrokerUnreachable, "no memory is to be had"),
    "no passwords": (
        at_handshake(amqp.AuthenticationError("PLAIN")),
        AccessRefused,
        "auth_mechanisms.1 = PLAIN",
    ),
    "no AMQP in the middle": (
        amqp.InvalidFrameError("Unknown frame type: 77"),
        BrokerUnreachable,
        "is there a proxy in between",
    ),
    "handshake timed out": (
        workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorStackTimeout("Timeout")]),
        BrokerUnreachable,
        "accepts connections at robot.local:5673 and does not answer",
    ),
    "not AMQP": (
        at_handshake(amqp.IncompatibleProtocolError("StreamLostError: ('Transport EOF',)")),
        BrokerUnreachable,
        "hangs up without a word",
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
        "has gone silent (No activity or too many missed heartbeats",
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
        "broke while it was opened",
    ),
    "an exception without a word": (
        amqp.AMQPConnectionError(),
        BrokerUnreachable,
        "(AMQPConnectionError): see the log of RabbitMQ there",
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
        "on the broker run as root: rabbitmqctl eval 'rabbit_exchange:delete(rabbit_misc:r("
        '<<"crossing">>, exchange, <<"miros.mesh">>), false, <<"rabbitmqctl">>).\' (it is',
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
        "rabbitmqctl add_user marvin; rabbitmqctl set_permissions -p crossing marvin",
    ),
    "a deleted vhost": (
        320,
        "CONNECTION_FORCED - vhost 'crossing' is deleted",
        "rabbitmqctl add_vhost crossing; rabbitmqctl set_permissions -p crossing marvin",
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
        "rabbitmqctl set_topic_permissions -p crossing marvin miros.mesh '.*' '.*'",
    ),
    "too large": (311, "CONTENT_TOO_LARGE - too large", "refuses a message for its size"),
    "a limit of the user": (
        530,
        "NOT_ALLOWED - connection refused for user 'marvin': user connection limit (1) is reached",
        "allows 'marvin' only 1 connection: ",
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
    "a limit of channels for the user": (
        530,
        "NOT_ALLOWED - number of channels opened for user 'marvin' has reached the maximum allowed "
        "user limit of (0)",
        "rabbitmqctl clear_user_limits marvin max-channels",
    ),
    "a limit of channels at the node": (
        530,
        "NOT_ALLOWED - number of channels opened on node 'rabbit@b' has reached the maximum allowed"
        " limit of 9",
        "raise channel_max_per_node",
    ),
    "a limit of queues": (
        406,
        "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost 'crossing' (3) is "
        "reached",
        "rabbitmqctl clear_vhost_limits -p crossing",
    ),
    "a limit of queues in the cluster": (
        406,
        "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in cluster (3) is reached",
        "Raise cluster_queue_limit",
    ),
    "a limit of exchanges": (
        406,
        "PRECONDITION_FAILED - cannot declare exchange 'miros.mesh' in vhost '/': exchange limit of"
        " 9 is reached",
        "raise cluster_exchange_limit",
    ),
    "a name that RabbitMQ keeps for itself": (
        403,
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
        "give the queue 'amq.mine' another name",
    ),
    "an exchange of the user's own": (
        403,
        "ACCESS_REFUSED - write access to exchange 'orders' in vhost '/' refused for user 'marvin'",
        "rabbitmqctl set_permissions -p crossing marvin '.*' '.*' '.*'",
    ),
    "a limit that cannot be queried": (
        530,
        "NOT_ALLOWED - access to vhost 'crossing' refused for user 'marvin': connection limit "
        "cannot be queried, timeout",
        "does not open the virtual host 'crossing' now",
    ),
    "out of something": (506, "RESOURCE_ERROR - no memory", "has run out of something"),
    "not implemented": (540, "NOT_IMPLEMENTED - active=false", "RabbitMQ 3.8 or newer"),
    "deprecated": (
        541,
        "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.",
        "deprecated_features.permit.NAME = true",
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


@pytest.mark.parametrize(
    "name", ["vhost channel", "shutdown", "queue 'x' in vhost", "it's", "a\"b'c"]
)
def test_a_name_that_reads_like_a_reason_is_not_taken_for_one(name: str) -> None:
    url = amqp_url("marvin", PASSWORD, ADDRESS, name)
    parameters = pika.URLParameters(url)
    for text, words in (
        (f"NOT_ALLOWED - vhost {name} not found", "rabbitmqctl add_vhost"),
        (f"NOT_ALLOWED - access to vhost '{name}' refused for user 'marvin'", "does not let"),
    ):
        closed = amqp.ConnectionClosedByBroker(530, text)
        refused = amqp.ProbableAccessDeniedError(repr(closed))
        fault = translate(at_handshake(refused), url, parameters)
        assert type(fault) is VhostNotFound
        assert words in str(fault)
        assert f"-p {shell(name)} marvin" in str(fault)


def test_a_text_that_rabbitmq_has_cut_ends_no_start() -> None:
    # A text has 255 bytes, and the reason may be behind them: perhaps a limit, which passes.
    text = f"NOT_ALLOWED - access to vhost '{'v' * 250}..."
    refused = amqp.ProbableAccessDeniedError(repr(amqp.ConnectionClosedByBroker(530, text)))
    assert type(translated(at_handshake(refused))) is ClosedByBroker


def test_what_a_broker_says_stays_on_one_line_and_is_short() -> None:
    fault = translated(amqp.ConnectionClosedByBroker(599, "NEW - a\n\x1b[31mred" + "x" * 9_999))
    assert "\n" not in str(fault)
    assert "\x1b" not in str(fault)
    assert len(str(fault)) < 600


GREETINGS: dict[bytes, str] = {
    b"HTTP/1.1 400 Bad Request\r\n": "it is a web server",
    b"SSH-2.0-OpenSSH_9.2p1\r\n": "it is an SSH server",
    b"AMQP\x03\x01\x00\x00": "it speaks AMQP 1.0.0 only",
    b"-ERR unknown command\r\n": "begins with '-ERR unknown command'",
    b"\x15\x03\x03\x00\x02\x02\x46": "expects TLS: give tls=",
}


@pytest.mark.parametrize(("greeting", "words"), GREETINGS.items(), ids=map(repr, GREETINGS))
def test_a_program_that_is_no_broker_is_named_by_its_first_bytes(
    greeting: bytes, words: str
) -> None:
    hung_up = at_handshake(amqp.IncompatibleProtocolError("StreamLostError: ('Transport EOF',)"))
    waits = workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorStackTimeout("Timeout")])
    for error in (hung_up, waits):
        fault = translate(error, URL, PARAMETERS, greeting)
        assert words in str(fault)
        assert type(fault) is BrokerUnreachable
        assert fault.has_answered


def test_the_usual_use_of_a_port_is_said() -> None:
    for port, words in ((15672, "management page"), (25672, "rabbitmqctl"), (22, "SSH")):
        for make in (faults.nothing_listens, faults.silent):
            assert words in str(make(Address("robot.local", port)))
    assert "usually" not in str(faults.nothing_listens(Address("robot.local", 5672)))


TLS: dict[str, str] = {
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in "
    "certificate chain (_ssl.c:1006)": "load that authority's certificate",
    "unable to get local issuer certificate": "load that authority's certificate",
    "certificate verify failed: certificate has expired": "the clocks of both machines",
    "certificate is not yet valid": "the clocks of both machines",
    "Hostname mismatch, certificate is not valid for 'robot.local'.": "with robot.local as",
    "IP address mismatch, certificate is not valid for '10.0.0.1'.": "a name or address that its",
    "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)": "does not speak TLS",
    "[SSL: RECORD_LAYER_FAILURE] record layer failure (_ssl.c:1032)": "does not speak TLS",
    "TLSV1_ALERT_PROTOCOL_VERSION": "ssl_options.versions",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "ssl_options.ciphers",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "tls.load_cert_chain",
    "it hung up right after the handshake": "tls.load_cert_chain",
    "TLSV1_ALERT_UNKNOWN_CA": "ssl_options.cacertfile",
    "no TLS handshake in time": "usually 5671",
    "of a new kind": "the authorities of the ssl.SSLContext",
}


@pytest.mark.parametrize(("detail", "remedy"), TLS.items(), ids=TLS)
def test_each_failure_of_tls_has_a_remedy_of_its_own(detail: str, remedy: str) -> None:
    fault = faults.tls_failed(ADDRESS, detail)
    assert remedy in str(fault)
    assert "_ssl.c" not in str(fault)


REMEDIES: dict[str, tuple[Callable[[], BrokerError], str]] = {
    "unknown host": (lambda: faults.unknown_host(ADDRESS), "give its IP address"),
    "nothing listens": (lambda: faults.nothing_listens(ADDRESS), "rabbitmq-server"),
    "unreachable": (lambda: faults.unreachable(ADDRESS, "it timed out"), "firewall"),
    "silent": (lambda: faults.silent(ADDRESS), "ss -ltnp 'sport = :5673'"),
    "gone silent": (lambda: faults.went_silent(ADDRESS, "for 9 s"), "ping robot.local"),
    "given up": (lambda: faults.gave_up(ADDRESS, "of a nack"), "it is opened anew"),
    "out of something here": (lambda: faults.failed_here(ADDRESS, "no memory"), "ulimit -a"),
    "not understood": (lambda: faults.not_understood(ADDRESS, "what"), "see the log of RabbitMQ"),
    "garbled": (lambda: faults.garbled(ADDRESS, "what"), "is there a proxy"),
    "plain to TLS": (lambda: faults.wants_tls(ADDRESS), "ssl.create_default_context(cafile=...)"),
    "no passwords": (lambda: faults.no_passwords(ADDRESS, "EXTERNAL"), "auth_mechanisms.1 = PLAIN"),
    "not RabbitMQ": (lambda: faults.not_rabbitmq(ADDRESS, "HTTP"), "correct the host or the port"),
    "TLS": (lambda: faults.tls_failed(ADDRESS, "expired"), "certificate"),
    "access": (
        lambda: faults.access_refused(ADDRESS, "marvin", "/"),
        "rabbitmqctl change_password marvin",
    ),
    "guest": (
        lambda: faults.access_refused(ADDRESS, "guest", "/"),
        "from the same machine only (loopback_users)",
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


def test_only_an_unreachable_host_is_blamed_on_a_firewall() -> None:
    for what, (make, _) in REMEDIES.items():
        assert ("firewall" in str(make())) is (what == "unreachable"), what


def test_guest_at_this_machine_has_only_a_wrong_password() -> None:
    for host in ("localhost", "127.0.0.1"):
        fault = faults.access_refused(Address(host), "guest", "/")
        assert "loopback_users" not in str(fault)


NAMES = [
    "a b",
    "x; evil-command",
    "$(evil-command)",
    "`evil-command`",
    "a$HOME",
    "it's",
    'a"; evil-command; "',
    "ends with\\",
    "-x",
    "line\nbreak",
    "it's\n$(evil-command)\\",
]

PLAIN = 'rabbitmqctl() { printf "%s\\0" "$@"; }'
DEBIAN = r"""rabbitmqctl() {
    for arg in "$@"; do line="$line \"$(sed -e 's/"/\\"/g' <<< "$arg")\""; done
    sh -c "printf '%s\\0' $line"; line=
}"""
"""The one of Debian hands its arguments to another shell, between double quotes."""


@pytest.mark.parametrize("rabbitmqctl", [PLAIN, DEBIAN], ids=["plain", "Debian"])
@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_is_recommended_can_be_pasted_safely(name: str, rabbitmqctl: str) -> None:
    is_dangerous = any(mark in name for mark in "$`\\")
    shown = remedies.PLACEHOLDER if is_dangerous else name
    for command in (
        remedies.add_user(name, name),
        remedies.add_vhost(name, name),
        remedies.set_permissions(name, name),
        remedies.rabbitmqctl("restart_vhost", vhost=name),
    ):
        assert command.isprintable()
        shell = subprocess.run(
            ["bash", "-c", f"{rabbitmqctl}\n{command}"], capture_output=True, check=True
        )
        assert not shell.stderr
        words = shell.stdout.decode().split("\0")
        assert shown in words or f"--vhost={shown}" in words
        allowed = {shown, f"--vhost={shown}", "-p", "--", "", *remedies.OURS.split()}
        assert {word for word in words if not re.fullmatch("[a-z_]+", word)} <= allowed


@pytest.mark.parametrize("name", [*NAMES, "miros.mesh", 'a">>, evil', "caf\u00e9"])
def test_a_command_for_an_exchange_can_be_pasted_safely(name: str, tmp_path: Path) -> None:
    declared, deleted = remedies.declare_exchange(name, name), remedies.delete_exchange(name, name)
    assert declared.isprintable()
    assert deleted.isprintable()
    there = declared.replace("/etc/rabbitmq/", f"{tmp_path}/")
    shell = subprocess.run(
        ["bash", "-c", f'rabbitmqctl() {{ echo "$@"; }}; {there}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == f"import_definitions {tmp_path}/miros.json\n"
    definitions = (tmp_path / "miros.json").read_text(encoding="utf-8")
    (exchange,) = json.loads(definitions)["exchanges"]
    assert (exchange["name"], exchange["vhost"], exchange["type"]) == (name, name, "topic")
    _, _, expression = shlex.split(deleted)
    names = re.fullmatch(
        r"rabbit_exchange:delete\(rabbit_misc:r\((<<.*>>), exchange, (<<.*>>)\), false, "
        r'<<"rabbitmqctl">>\)\.',
        expression,
    )
    assert names is not None
    assert names[1] == names[2]
    said = names[1].removeprefix("<<").removesuffix(">>")
    if said.startswith('"'):
        assert said == f'"{name}"'
        assert '"' not in name
    else:
        assert bytes(map(int, said.split(","))) == name.encode()


def test_no_command_takes_a_password() -> None:
    for make, _ in REMEDIES.values():
        assert "PASSWORD" not in str(make())


def test_a_shortage_of_this_process_is_no_fault_of_the_network() -> None:
    error = amqp.StreamLostError("Stream connection lost: MemoryError()", MemoryError())
    fault = translate(error, URL, PARAMETERS)
    assert isinstance(fault.__cause__, OutOfResources)
    assert "memory" in str(fault)
    assert "firewall" not in str(fault)
