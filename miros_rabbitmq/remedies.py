"""Commands that mend a broker, with the names filled in and quoted for a shell. Pure text.

None contains a password: ``add_user`` and ``change_password`` ask for it.
"""

from __future__ import annotations

import json
import re
from shlex import quote

OURS = r"^(miros\.|amq\.gen-)"
"""The names of our exchanges and queues, and of the queues of the snoops, which the broker names.
A user has to be allowed to configure, write and read these."""

PERMISSIONS = " ".join([quote(OURS)] * 3)
"""The least that a user needs, as arguments for ``rabbitmqctl set_permissions``."""


PLACEHOLDER = "NAME"
"""Stands in a command for a name that nobody should paste."""

_ACTIVE = re.compile(r"[$`]|\\(?!\.)")
"""What a shell replaces between double quotes. Debian's ``rabbitmqctl`` hands its arguments in such
quotes to another shell, so that no quoting is safe there; a broker that is none may have made up
the name. A backslash before a point, as in our patterns, stays as it is."""


def shell(name: str) -> str:
    """Quote a name for a shell, on one printable line; a dangerous one is left out."""
    if _ACTIVE.search(name):
        return PLACEHOLDER
    if name.isprintable():
        return quote(name)
    # As bash, zsh and POSIX 2024 read it.
    shown = "".join(
        mark
        if mark.isprintable() and mark not in "'\\"
        else "".join(f"\\x{byte:02x}" for byte in mark.encode("utf-8", "replace"))
        for mark in name
    )
    return f"$'{shown}'"


def rabbitmqctl(command: str, *names: str, vhost: str | None = None) -> str:
    """A command with names, even if they begin with a dash.

    Args:
        command: the command of ``rabbitmqctl``.
        *names: its arguments.
        vhost: its virtual host, if it takes one.
    """
    words = ["rabbitmqctl", command]
    if vhost is not None:
        words += [f"--vhost={shell(vhost)}"] if vhost.startswith("-") else ["-p", shell(vhost)]
    if any(name.startswith("-") for name in names):
        words.append("--")
    return " ".join([*words, *map(shell, names)])


def set_permissions(user: str, vhost: str, resource: str = "") -> str:
    """Give a user the permissions that this package needs.

    Args:
        user: the user.
        vhost: the virtual host.
        resource: the exchange or queue that was refused. If it is none of ours, the user's own
            program has named it, and the user is allowed everything.
    """
    allowed = OURS if not resource or re.search(OURS, resource) else ".*"
    return rabbitmqctl("set_permissions", user, *[allowed] * 3, vhost=vhost)


def declare_exchange(name: str, vhost: str) -> str:
    """Declare an exchange as this package does, for a user who may not."""
    exchange = {
        "vhost": vhost,
        "name": name,
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }
    definitions = json.dumps({"exchanges": [exchange]})
    # Not echo, which in some shells reads backslashes. By a file, as rabbitmqctl of RabbitMQ 4.0
    # never comes to the end of its standard input; in a folder where nobody else can plant one.
    file = "/etc/rabbitmq/miros.json"
    return f"printf %s {quote(definitions)} > {file}; rabbitmqctl import_definitions {file}"


_PLAIN = re.compile(r"[A-Za-z0-9._/ -]*")


def _binary(text: str) -> str:
    """A text as Erlang writes bytes."""
    if _PLAIN.fullmatch(text):
        return f'<<"{text}">>'
    return f"<<{','.join(map(str, text.encode('utf-8', 'surrogatepass')))}>>"


def delete_exchange(name: str, vhost: str) -> str:
    """Delete an exchange. No command of ``rabbitmqctl`` does; this works with RabbitMQ 3.8 to 4."""
    resource = f"rabbit_misc:r({_binary(vhost)}, exchange, {_binary(name)})"
    by = _binary("rabbitmqctl")
    return f"rabbitmqctl eval {quote(f'rabbit_exchange:delete({resource}, false, {by}).')}"


def add_user(user: str, vhost: str) -> str:
    """Add a user and give the permissions; the first command asks for the password."""
    return f"{rabbitmqctl('add_user', user)}; {set_permissions(user, vhost)}"


def add_vhost(user: str, vhost: str) -> str:
    """Add a virtual host and give the permissions."""
    return f"{rabbitmqctl('add_vhost', vhost)}; {set_permissions(user, vhost)}"
