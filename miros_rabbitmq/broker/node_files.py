"""The files of a private RabbitMQ node: its programs, folder, configuration and environment.

This module finds RabbitMQ on the machine, writes the files into one temporary folder, and knows
the environment variables that keep RabbitMQ's own scripts inside that folder. It starts no process
and opens no socket; ``node_process`` runs the node.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..exceptions import LocalBrokerError
from ..programs import find_program
from ..urls import Address

PROGRAM_FOLDERS = ("/usr/lib/rabbitmq/bin",)
"""Where the packages for Debian, Ubuntu and Fedora have RabbitMQ's own scripts. These are preferred
to the ones on PATH: with those packages, PATH leads to wrappers that change to the user
``rabbitmq``."""

_LOG_TAIL_BYTES = 64 * 1024
"""How much of a log is looked at for them: a node that runs for days writes a large one."""

LOG_TAIL_LINES = 60
"""How many lines of a log go into an error: enough for a crash report and the cause before it."""

_VM_FLAGS = "+S 1:1 +SDio 2 +sbwt none +sbwtdcpu none +sbwtdio none"
"""Flags of Erlang's ``erl``: one scheduler and no busy waiting. On a small machine, such a node
boots faster than with the default of a scheduler for each core; and while it is idle, it takes no
processor time from the programs under test."""


def find_rabbitmq() -> Path:
    """Find the folder of RabbitMQ's scripts.

    Raises:
        LocalBrokerError: RabbitMQ is not installed on this machine. The message says how to install
            it.
    """
    folders = [Path(folder) for folder in PROGRAM_FOLDERS]
    with contextlib.suppress(FileNotFoundError):
        folders.append(Path(find_program("rabbitmq-server")).resolve().parent)
    for folder in folders:
        if os.access(folder / "rabbitmq-server", os.X_OK):
            return (folder / "rabbitmq-server").resolve().parent
    raise LocalBrokerError(
        "rabbitmq-server is not installed, or not on PATH. On Debian or Ubuntu, as root: "
        "'apt-get install rabbitmq-server'; elsewhere see https://www.rabbitmq.com/docs/download. "
        "The service that comes with it does not have to run."
    )


def password_hash(password: str, salt: bytes) -> str:
    """Hash a password as RabbitMQ does: https://www.rabbitmq.com/docs/passwords."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


class Founder(NamedTuple):
    """What a node has to know of another one to join its cluster."""

    node_name: str
    cookie: str
    """Erlang's shared secret: nodes talk to each other if they have the same."""
    control_port: int
    """Without epmd, a node looks for all others at the port where it is reached itself."""


class NodeFiles:
    """The folder of one node, and the environment of the programs that work with it.

    Args:
        folder: an empty folder that belongs to this node alone.
        scripts: the folder of RabbitMQ's scripts, from ``find_rabbitmq``.
        name: the part of the node's name before the ``@``.
        host: the IPv4 address on which the node serves its clients.
        founder: the node whose cluster this one joins at its first boot; None: it stays alone.
    """

    def __init__(
        self, folder: Path, scripts: Path, name: str, host: str, founder: Founder | None = None
    ) -> None:
        self.folder = folder
        self.has_booted = False
        self.log: Path = folder / "node.log"
        self.console: Path = folder / "console.log"
        self.notify: Path = folder / "notify"
        self.rabbitmq_server: str = os.fspath(scripts / "rabbitmq-server")
        self.rabbitmqctl: str = os.fspath(scripts / "rabbitmqctl")
        self._scripts = scripts
        self._config = folder / "rabbitmq.conf"
        self._definitions = folder / "definitions.json"
        self._cookie = folder / ".erlang.cookie"
        self._home = folder / "home"
        # An address, since a host name may not resolve in a container or a namespace.
        is_loopback = ipaddress.IPv4Address(host).is_loopback
        self.control_host: str = host if is_loopback else "127.0.0.1"
        self._node_name = f"{name}@{self.control_host}"
        self._control_port = 0
        self.founder: Founder | None = founder

    @property
    def as_founder(self) -> Founder:
        """What others need to join this node, once it has booted."""
        cookie = self._cookie.read_text(encoding="utf-8")
        return Founder(self._node_name, cookie, self._control_port)

    def write(
        self,
        address: Address,
        control_port: int,
        users: Mapping[str, str],
        vhosts: Sequence[str],
        config: Mapping[str, str],
    ) -> None:
        """Write the files that the next boot reads.

        Only the first boot imports users and virtual hosts, so that what ``rabbitmqctl`` has
        changed since stays changed when the node is restarted.

        Args:
            address: where the node serves AMQP.
            control_port: where it takes the commands of ``rabbitmqctl``.
            users: all users, as a mapping of names to passwords.
            vhosts: the names of all virtual hosts.
            config: further settings, by their names in ``rabbitmq.conf``.
        """
        self._control_port = control_port
        settings = {
            "listeners.tcp.1": str(address),
            # With the default, 50 MB, a node on a nearly full disk would block publishers.
            "disk_free_limit.absolute": "1MB",
        }
        if not self.has_booted:
            self._link_programs()
            if self.founder is None:  # a cluster has users and virtual hosts
                settings["load_definitions"] = os.fspath(self._definitions)
                _write_private(self._definitions, _definitions(users, vhosts))
        if not self._cookie.exists():
            cookie = secrets.token_hex(16) if self.founder is None else self.founder.cookie
            _write_private(self._cookie, cookie)
        lines = [f"{key} = {value}\n" for key, value in {**settings, **config}.items()]
        _write_private(self._config, "".join(lines))

    def server_environment(self) -> dict[str, str]:
        """The environment of ``rabbitmq-server``."""
        folder = os.fspath(self.folder)
        listen = self.control_host.replace(".", ",")
        return {
            **self._common_environment(),
            # Because of this variable the script becomes the node, and does not stay its parent.
            "NOTIFY_SOCKET": os.fspath(self.notify),
            # A node that misses epmd starts an Erlang of its own now and then, to have it started.
            # This variable reaches that one, too.
            "ERL_FLAGS": self._control_flags,
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_CONFIG_FILE": os.fspath(self._config.with_suffix("")),
            "RABBITMQ_CONFIG_FILES": f"{folder}/conf.d",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_LOGS": os.fspath(self.log),
            "RABBITMQ_PID_FILE": f"{folder}/node.pid",
            # With -name, the VM itself starts Erlang's distribution. Otherwise RabbitMQ would, and
            # would start epmd as well.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"{_VM_FLAGS} -name {self._node_name} -kernel inet_dist_use_interface {{{listen}}}"
            ),
        }

    def ctl_environment(self) -> dict[str, str]:
        """The environment of ``rabbitmqctl``, which is told not to listen on a port."""
        return {
            **self._common_environment(),
            # Not ERL_FLAGS: the script of RabbitMQ 4 sets that one itself. And not both of them:
            # Erlang ignores a control port that it is told twice.
            "RABBITMQ_CTL_ERL_ARGS": f"{self._control_flags} -dist_listen false",
        }

    def log_tail(self) -> str:
        """The last lines of the node's log and of its other output."""
        tails = []
        for path in (self.log, self.console):
            if path.exists():
                lines = _end_of(path).decode("utf-8", "replace").splitlines()
                tails += [line for line in lines if line.strip()][-LOG_TAIL_LINES:]
        return "\n".join(tails) or "(it wrote nothing)"

    @property
    def _control_flags(self) -> str:
        """Flags of ``erl`` for a node that is reached at a known port, without epmd."""
        return f"-start_epmd false -erl_epmd_port {self._control_port}"

    def _common_environment(self) -> dict[str, str]:
        """The variables for all programs, hardly any of them from this process's environment."""
        environment = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        environment.update(
            # Erlang reads its cookie there, and the watchdog recognizes our processes by it.
            HOME=os.fspath(self.folder),
            LC_ALL="C.UTF-8",
            # This path replaces the file of the machine's own service.
            RABBITMQ_CONF_ENV_FILE=os.fspath(self.folder / "rabbitmq-env.conf"),
            RABBITMQ_NODENAME=self._node_name,
            RABBITMQ_USE_LONGNAME="true",
            RABBITMQ_DIST_PORT=str(self._control_port),
        )
        if self._home.exists():
            environment["RABBITMQ_SCRIPTS_DIR"] = os.fspath(self._home / "sbin")
        return environment

    def _link_programs(self) -> None:
        """Make a RabbitMQ without plugins, out of links to the installed one.

        A booting node looks for each of its modules in the folder of every plugin, enabled or not.
        With the forty plugins that come with RabbitMQ, a boot takes twice as long as without. If
        the installed RabbitMQ has an unknown layout, it is used as it is.
        """
        installed = self._scripts.parent
        plugins = installed / "plugins"
        if self._home.exists() or not any(plugins.glob("rabbit-*")):
            return
        (self._home / "plugins").mkdir(parents=True)
        for name in ("sbin", "escript"):
            (self._home / name).symlink_to(self._scripts if name == "sbin" else installed / name)
        for entry in plugins.iterdir():
            if not entry.name.startswith("rabbitmq_") or entry.name.startswith(
                "rabbitmq_prelaunch"
            ):
                (self._home / "plugins" / entry.name).symlink_to(entry)


def _definitions(users: Mapping[str, str], vhosts: Sequence[str]) -> str:
    """Users, virtual hosts and rights, in the format that RabbitMQ imports."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return json.dumps(
        {
            "users": [
                {
                    "name": user,
                    "password_hash": password_hash(password, secrets.token_bytes(4)),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "administrator",
                }
                for user, password in users.items()
            ],
            "vhosts": [{"name": vhost} for vhost in vhosts],
            "permissions": [
                {"user": user, "vhost": vhost, **everything} for user in users for vhost in vhosts
            ],
        }
    )


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
        return file.read(_LOG_TAIL_BYTES)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, as Erlang requires for its cookie."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
