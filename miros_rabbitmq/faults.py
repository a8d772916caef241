"""What went wrong with a broker, in words a user can act on.

The links of `amqp` and the scout of `discovery` both use them. Each fault ends with the remedy for
that fault, with the names filled in. `closings` has the words for what a broker itself says.
"""

from __future__ import annotations

import re

from .exceptions import AccessRefused, BrokerUnreachable, OutOfResources, QueueTaken, UnknownHost
from .foreign import in_words
from .greeting import usual_use
from .remedies import add_user, declare_exchange, rabbitmqctl, set_permissions
from .urls import Address

_SEE_LOG = (
    "see the log of RabbitMQ there (as root: journalctl -u rabbitmq-server, or /var/log/rabbitmq)"
)


def unknown_host(address: Address, detail: str = "", *, is_unanswered: bool = False) -> UnknownHost:
    """The name does not resolve.

    Args:
        address: the broker's.
        detail: what the resolver says.
        is_unanswered: whether no name server has answered.
    """
    because = f" ({in_words(detail)})" if detail else ""
    remedy = (
        "no name server has answered: check the network of this machine and /etc/resolv.conf"
        if is_unanswered
        else "check its spelling, and whether the name service or /etc/hosts has it"
    )
    return UnknownHost(
        f"the host name {address.host!r} is not known here{because}: {remedy}, or give its IP "
        "address",
        str(address),
    )


def nothing_listens(address: Address) -> BrokerUnreachable:
    """The host answers, but no program listens on the port."""
    return BrokerUnreachable(
        f"nothing listens at {address}: start RabbitMQ there (as root: systemctl start "
        "rabbitmq-server), or correct the host or the port; rabbitmq-diagnostics listeners, as "
        f"root, shows on the broker where it listens{usual_use(address.port)}",
        str(address),
    )


def unreachable(address: Address, detail: str) -> BrokerUnreachable:
    """The host does not answer at all."""
    return BrokerUnreachable(
        f"no answer from {address} ({in_words(detail)}): check that the host is up, that both "
        "machines are on the network, that this is its address, and that no firewall is in the way "
        f"(try: ping {address.host})",
        str(address),
    )


def silent(address: Address, detail: str = "") -> BrokerUnreachable:
    """A program accepts connections, and does not say what a broker says, nor anything else."""
    more = f" ({in_words(detail)})" if detail else ""
    return BrokerUnreachable(
        f"a program accepts connections at {address} and does not answer{more}: on that machine, "
        f"see which it is (ss -ltnp 'sport = :{address.port}'); if it is RabbitMQ, it is stuck or "
        "overloaded (as root: rabbitmq-diagnostics status), otherwise correct the port"
        f"{usual_use(address.port)}",
        str(address),
        has_answered=True,
    )


def went_silent(address: Address, detail: str) -> BrokerUnreachable:
    """A connection that worked carries nothing any more."""
    return BrokerUnreachable(
        f"{address} has gone silent ({in_words(detail)}): its host is frozen, overloaded or "
        f"off, or the network between is cut; check with ping {address.host}, and on the broker, "
        "as root, with rabbitmq-diagnostics status. It is connected again as soon as it answers",
        str(address),
    )


def connection_broken(address: Address, when: str = "") -> BrokerUnreachable:
    """The connection broke without a word of the broker."""
    at = f" {when}" if when else ""
    return BrokerUnreachable(
        f"the connection to {address} broke{at}: its broker has ended, or something on the way has "
        f"cut it; if it does not come back, {_SEE_LOG}",
        str(address),
    )


def gave_up(address: Address, why: str) -> BrokerUnreachable:
    """We have given up a connection that worked, to connect anew."""
    return BrokerUnreachable(
        f"the connection to {address} was given up, because {in_words(why)}; it is opened anew",
        str(address),
    )


def failed_here(address: Address, detail: str) -> BrokerUnreachable:
    """This process could not even try: the fault is on this machine."""
    return BrokerUnreachable(
        f"this machine cannot connect to {address} now ({in_words(detail)}): look at the limits of "
        "this process (ulimit -a) and at the memory of the machine; it is tried again",
        str(address),
    )


def starved(address: Address, short: OutOfResources) -> BrokerUnreachable:
    """This process lacks what it needs for a connection; the shortage is the ``__cause__``."""
    fault = BrokerUnreachable(f"no usable connection to {address}: {short}", str(address))
    fault.__cause__ = short
    return fault


def not_understood(address: Address, detail: str) -> BrokerUnreachable:
    """Anything that is none of the others."""
    return BrokerUnreachable(
        f"no usable connection to {address} ({in_words(detail)}): {_SEE_LOG}", str(address)
    )


def message_refused(address: Address, detail: str) -> BrokerUnreachable:
    """The broker has closed the channel, or the connection, because of a message.

    Args:
        address: the broker's.
        detail: what it says, in the words of `closings`.
    """
    return BrokerUnreachable(detail, str(address), has_answered=True)


def not_rabbitmq(address: Address, detail: str) -> BrokerUnreachable:
    """Something other than RabbitMQ answers."""
    return BrokerUnreachable(
        f"what listens at {address} is not a RabbitMQ that this package can use "
        f"({in_words(detail)}): correct the host or the port{usual_use(address.port)}",
        str(address),
        has_answered=True,
    )


def garbled(address: Address, detail: str) -> BrokerUnreachable:
    """RabbitMQ answers, and then comes what is no AMQP."""
    return BrokerUnreachable(
        f"what comes from {address} cannot be read as AMQP ({in_words(detail)}): is there a proxy "
        "in between that changes what passes? If not, please report it, with the versions of "
        "RabbitMQ and pika",
        str(address),
        has_answered=True,
    )


def misbehaved(address: Address, detail: str) -> BrokerUnreachable:
    """What answers sends what no broker sends, or more of it than it may."""
    return BrokerUnreachable(
        f"the connection to {address} was closed, as what came does not keep to AMQP "
        f"({in_words(detail)}): is it RabbitMQ that listens there, and is there a proxy in between "
        "that changes what passes? If it is RabbitMQ itself, please report it, with its version",
        str(address),
        has_answered=True,
    )


def wants_tls(address: Address) -> BrokerUnreachable:
    """The port expects TLS, and we came without."""
    return BrokerUnreachable(
        f"{address} expects TLS: give tls=ssl.create_default_context(cafile=...), or set "
        "RABBIT_TLS_CAFILE in the environment; or give the port without TLS, which is usually 5672",
        str(address),
        has_answered=True,
    )


_TLS_REMEDIES = (
    (
        "expired|not yet valid",
        "renew the certificate there (ssl_options.certfile in rabbitmq.conf), and check that the "
        "clocks of both machines are right",
    ),
    (
        "mismatch|not valid for|doesn t match",
        "give the broker by a name or address that its certificate has, or make a certificate "
        "with {host} as a subjectAltName",
    ),
    (
        "self signed|local issuer|unable to get issuer|certificate verify failed",
        "its certificate is signed by an authority that tls= does not know: load that authority's "
        "certificate (ssl.create_default_context(cafile=...), or RABBIT_TLS_CAFILE)",
    ),
    (
        "alert.*protocol version|unsupported protocol|no protocols available|handshake failure"
        "|no shared cipher|insufficient security",
        "the two have no version or cipher of TLS in common: compare ssl_options.versions and "
        "ssl_options.ciphers in rabbitmq.conf there with minimum_version and the ciphers of tls=",
    ),
    (
        "wrong version number|record layer failure|http request|packet length too long"
        "|unexpected message|unknown protocol",
        "what listens there does not speak TLS: give the port of TLS, which is usually 5671, or "
        "leave out tls= and RABBIT_TLS_CAFILE",
    ),
    (
        "alert|hung up|demand|eof|reset|broken pipe",
        "the broker does not accept this node: does it demand a certificate "
        "(ssl_options.fail_if_no_peer_cert)? Then give one that an authority of its "
        "ssl_options.cacertfile has signed: tls.load_cert_chain(...), or RABBIT_TLS_CERTFILE and "
        "RABBIT_TLS_KEYFILE",
    ),
    (
        "in time|timed out|timeout",
        "is it the port of TLS, usually 5671? If so, RabbitMQ is overloaded or stuck there "
        "(as root: rabbitmq-diagnostics status)",
    ),
)
"""What to do about what OpenSSL says, as far as the words of its versions are known. The first that
is found counts."""


def tls_failed(address: Address, detail: str) -> BrokerUnreachable:
    """The TLS handshake failed.

    Args:
        address: the broker's.
        detail: what the ssl module says.
    """
    detail = re.sub(r" \(_ssl\.c:\d+\)$", "", in_words(detail))
    said = " ".join(re.findall(r"[a-z]+", detail.lower()))
    remedy = next(
        (remedy for pattern, remedy in _TLS_REMEDIES if re.search(pattern, said)),
        "check the port, the broker's certificate and the authorities of the ssl.SSLContext given "
        "as tls=",
    )
    return BrokerUnreachable(
        f"TLS with {address} failed ({detail}): {remedy.format(host=address.host)}"
        f"{usual_use(address.port)}",
        str(address),
        has_answered=True,
    )


def access_refused(address: Address, user: str, vhost: str) -> AccessRefused:
    """The broker refuses the user or the password. RabbitMQ does not say which."""
    if user == "guest" and not _is_this_machine(address.host):
        return AccessRefused(
            f"{address} refuses the user 'guest', as RabbitMQ lets it in from the same machine "
            "only (loopback_users), or the password is wrong: make a user of your own, the same on "
            "each broker, and give it as rabbit_user; on the broker run as root: "
            f"{add_user('robot', vhost)}",
            str(address),
        )
    return AccessRefused(
        f"{address} refuses the user {user!r} or its password: correct rabbit_user and "
        f"rabbit_password. On the broker, as root, {rabbitmqctl('authenticate_user', user)} tells "
        f"whether a password is right, and {rabbitmqctl('change_password', user)} sets another; if "
        f"there is no such user, run: {add_user(user, vhost)}",
        str(address),
    )


def no_exchange(address: Address, exchange: str, user: str, vhost: str) -> AccessRefused:
    """There is no exchange, and the user may not declare one."""
    return AccessRefused(
        f"{address} does not give {user!r} the permissions it needs: there is no exchange "
        f"{in_words(exchange)!r}, and it may not declare it. On the broker run as root: "
        f"{set_permissions(user, vhost, exchange)}; or, if the user is to declare queues only: "
        f"{declare_exchange(exchange, vhost)}",
        str(address),
    )


def _is_this_machine(host: str) -> bool:
    return host == "localhost" or host.startswith("127.")


def no_passwords(address: Address, mechanisms: str) -> AccessRefused:
    """The broker takes no passwords."""
    return AccessRefused(
        f"{address} accepts no password, only {in_words(mechanisms) or 'nothing'}: allow PLAIN in "
        "rabbitmq.conf there (auth_mechanisms.1 = PLAIN)",
        str(address),
    )


def queue_held(address: Address, patience_s: float | None = None) -> QueueTaken:
    """Another consumer has the queue; if it is an earlier connection of our own, not for long."""
    if patience_s is None:
        return QueueTaken(
            f"another program consumes from the queue at {address}, and one of the two demands to "
            "be the only one: stop that program, or name another queue",
            str(address),
        )
    return QueueTaken(
        f"the queue at {address} is still in use: by the connection before, which that broker has "
        "not given up yet, or by somebody else; what waits in it comes when it is free, and after "
        f"{patience_s:.0f} s a new queue takes its place",
        str(address),
    )


def queue_taken(address: Address, why: str) -> QueueTaken:
    """The queue is not ours any more."""
    return QueueTaken(
        f"somebody has taken the queue at {address}: {why}; a new one with another name takes its "
        "place, and what waited in the old one is lost. If that was nobody of yours, change the "
        "password of the RabbitMQ user",
        str(address),
    )
