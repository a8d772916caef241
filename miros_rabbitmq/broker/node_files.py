"""What a private RabbitMQ node is made of: the programs, its folder, configuration and environment.

Serves ``broker``, which runs the node. This module finds RabbitMQ on the machine, lays out one
temporary folder, and says with which environment RabbitMQ's own scripts stay inside it. It starts
no process and opens no socket.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..exceptions import LocalBrokerError
from ..urls import Address

PROGRAM_FOLDERS = ("/usr/lib/rabbitmq/bin",)
"""Where packages for Debian, Ubuntu and Fedora keep RabbitMQ's own scripts. They are preferred to
those on PATH, which there are wrappers that change to the user ``rabbitmq``."""

LOG_TAIL_LINES = 60
"""How much of a log goes into an error: a crash report, and the cause logged before it."""

_VM_FLAGS = "+S 1:1 +SDio 2 +sbwt none +sbwtdcpu none +sbwtdio none"
"""One scheduler, no busy waiting: on a small machine this boots faster than the default of one
for each core, and an idle node takes no time from the programs under test."""


def find_rabbitmq() -> Path:
    """The folder of RabbitMQ's scripts.

    Raises:
        LocalBrokerError: RabbitMQ is not installed on this machine; says how to install it.
    """
    on_path = shutil.which("rabbitmq-server")
    folders = [Path(folder) for folder in PROGRAM_FOLDERS]
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if os.access(folder / "rabbitmq-server", os.X_OK):
            return (folder / "rabbitmq-server").resolve().parent
    raise LocalBrokerError(
        "rabbitmq-server is not installed, or not on PATH. On Debian or Ubuntu: "
        "'apt-get install rabbitmq-server'; elsewhere see https://www.rabbitmq.com/docs/download. "
        "The service that comes with it need not run."
    )


def password_hash(password: str, salt: bytes) -> str:
    """A password as RabbitMQ stores it: https://www.rabbitmq.com/docs/passwords."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


class NodeFiles:
    """The folder of one node, and the environment of the programs that work on it.

    Args:
        folder: an empty folder, of which everything may be removed later.
        scripts: the folder of RabbitMQ's scripts, from ``find_rabbitmq``.
        name: the node's name, before the ``@``.
        host: the address on which the node serves its clients.
    """

    def __init__(self, folder: Path, scripts: Path, name: str, host: str) -> None:
        self.folder = folder
        self.has_booted = False
        self.log = folder / "node.log"
        self.console = folder / "console.log"
        self.notify = folder / "notify"
        self.rabbitmq_server = os.fspath(scripts / "rabbitmq-server")
        self.rabbitmqctl = os.fspath(scripts / "rabbitmqctl")
        self._scripts = scripts
        self._config = folder / "rabbitmq.conf"
        self._definitions = folder / "definitions.json"
        self._cookie = folder / ".erlang.cookie"
        self._home = folder / "home"
        # An address and no host name: nothing has to resolve, in a container or a namespace.
        is_loopback = ipaddress.IPv4Address(host).is_loopback
        self.control_host = host if is_loopback else "127.0.0.1"
        self._node_name = f"{name}@{self.control_host}"
        self._control_port = 0

    def write(
        self,
        address: Address,
        control_port: int,
        users: Mapping[str, str],
        vhosts: Sequence[str],
        config: Mapping[str, str],
    ) -> None:
        """Write what the next boot reads.

        Users and virtual hosts are imported by the first boot alone: what was changed with
        ``rabbitmqctl`` stays changed in a restarted node.
        """
        self._control_port = control_port
        settings = {
            "listeners.tcp.1": str(address),
            # The default, 50 MB, would block publishers on a nearly full disk.
            "disk_free_limit.absolute": "1MB",
        }
        if not self.has_booted:
            settings["load_definitions"] = os.fspath(self._definitions)
            _write_private(self._definitions, _definitions(users, vhosts))
            self._link_programs()
        if not self._cookie.exists():
            _write_private(self._cookie, secrets.token_hex(16))
        lines = [f"{key} = {value}\n" for key, value in {**settings, **config}.items()]
        _write_private(self._config, "".join(lines))

    def server_environment(self) -> dict[str, str]:
        """The environment of ``rabbitmq-server``."""
        folder = os.fspath(self.folder)
        listen = self.control_host.replace(".", ",")
        return {
            **self._common_environment(),
            # Under systemd's protocol the script becomes the node, instead of staying its parent.
            "NOTIFY_SOCKET": os.fspath(self.notify),
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
            # The distribution starts with the VM and not with RabbitMQ, which would start epmd.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"{_VM_FLAGS} -name {self._node_name} -kernel inet_dist_use_interface {{{listen}}}"
            ),
        }

    def ctl_environment(self) -> dict[str, str]:
        """The environment of ``rabbitmqctl``, which connects and does not listen."""
        environment = self._common_environment()
        environment["ERL_FLAGS"] += " -dist_listen false"
        return environment

    def log_tail(self) -> str:
        """The last lines of what the node wrote."""
        tails = []
        for path in (self.log, self.console):
            if path.exists():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                tails += [line for line in lines if line.strip()][-LOG_TAIL_LINES:]
        return "\n".join(tails) or "(it wrote nothing)"

    def _common_environment(self) -> dict[str, str]:
        """What all programs need; of this process's own environment hardly anything."""
        environment = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        environment.update(
            # Erlang has its cookie there, and the watchdog knows our processes by it.
            HOME=os.fspath(self.folder),
            LC_ALL="C.UTF-8",
            ERL_FLAGS=f"-start_epmd false -erl_epmd_port {self._control_port}",
            # The file of the machine's own service must not have its say here.
            RABBITMQ_CONF_ENV_FILE=os.fspath(self.folder / "rabbitmq-env.conf"),
            RABBITMQ_NODENAME=self._node_name,
            RABBITMQ_USE_LONGNAME="true",
            RABBITMQ_DIST_PORT=str(self._control_port),
        )
        if self._home.exists():
            environment["RABBITMQ_SCRIPTS_DIR"] = os.fspath(self._home / "sbin")
        return environment

    def _link_programs(self) -> None:
        """Make a RabbitMQ without its plugins, of links to the installed one.

        A booting node looks for each of its modules in the folder of every plugin, enabled or not:
        with the forty that come with RabbitMQ in sight a boot takes twice as long. An unknown
        layout is left as it is, and slow.
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
    """Users, virtual hosts and rights, as RabbitMQ imports them."""
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


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; Erlang insists on that for its cookie."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
