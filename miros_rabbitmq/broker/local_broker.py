"""A private, throw-away RabbitMQ node for demos and tests: ``LocalBroker``.

Starts the RabbitMQ that is installed on this machine as an ordinary child process, with everything
of its own: node name, data folder, address, ports, users, virtual hosts, Erlang cookie. The node
has no plugins, shares nothing with the RabbitMQ service of the machine, and leaves nothing behind.
``node_files`` writes its folder. ``node_process`` runs it, and makes sure that it ends when this
process ends, in whatever way. This module does not speak AMQP with it.

The node runs without ``epmd``, the port mapper of Erlang: node and ``rabbitmqctl`` are both told
the port at which the node takes commands.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from ..exceptions import LocalBrokerError, SettingsError
from ..host_names import ip_of, is_loopback
from ..process import Stage, disown_in_child, end_with_program, stay
from ..resources import naming_shortage, shortage
from ..urls import (
    Address,
    AmqpUrl,
    amqp_url,
    check_short_text,
    check_utf8,
    redact,
    require_text,
)
from ..wording import a_value_of
from .node_files import Founder, NodeFiles, find_rabbitmq
from .node_process import Boot, NodeProcess, free_port, why_not_free

logger: logging.Logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
"""How long a boot may take: about 4 s on two free cores, many times that on a busy CI machine."""

GRACE_S = 5.0
"""How long a node may take to close its connections before it is killed; 1 s is usual."""

CTL_TIMEOUT_S = 60.0
"""How long one rabbitmqctl command may take; half a second is usual."""

_PORT_ATTEMPTS = 3
"""How often a boot is tried when another program takes the chosen port first."""


class LocalBroker:
    """A private RabbitMQ node on a loopback address, for demos and tests.

    1. Make one; nothing happens yet.
    2. Call ``start()``, or enter it as a context manager; the node is ready when that returns.
    3. Give ``url()``, or ``host``, ``port``, ``user`` and ``password``, to its clients.
    4. Disturb it as you like: ``kill()``, ``pause()``, ``resume()``, ``restart()``, ``ctl()``.
    5. Call ``stop()``, or leave the context; no process, port or file remains.

    ::

        with LocalBroker("127.0.0.2") as broker:
            print(broker.ctl("list_vhosts"))

    All methods may be called from any thread. They wait for each other, except that ``stop()`` and
    ``kill()`` do not wait for a boot: they end it. A forked child does not own its parent's node
    and cannot end it. When the owning process ends, even by SIGKILL, the node ends too.

    A start takes about 4 s on a machine that is not busy. At the level INFO, the log says when it
    begins and when the node is ready; if it takes more than 10 s, a warning says so.

    Args:
        host: the IPv4 address of this machine that the node listens on. If it is not one of
            127.0.0.0/8, other machines may reach the node and only the passwords of its users
            protect it; ``start()`` logs a warning that says so.
        port: the node's AMQP port; ``start()`` chooses a free one if it is None.
        user: the name of the node's user, who may do everything in every virtual host.
        password: the user's password; random if it is None.
        vhosts: the names of the node's virtual hosts.
        users: further users with the same rights, as a mapping of names to passwords.
        name: the part of the Erlang node name before the ``@``; random if it is None.
        config: further settings, by their names in ``rabbitmq.conf``.
        joins: a node that runs when this one starts for the first time, and whose cluster this one
            joins. Each node of a cluster has a loopback address of its own. The cluster has the
            users and virtual hosts of its first node, so that ``user``, ``password``, ``vhosts``
            and ``users`` are left out for the others.

    Raises:
        SettingsError: an argument has a value that cannot work.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        user: str = "miros",
        password: str | None = None,
        vhosts: Sequence[str] = ("/",),
        users: Mapping[str, str] | None = None,
        name: str | None = None,
        config: Mapping[str, str] | None = None,
        joins: LocalBroker | None = None,
    ) -> None:
        if not isinstance(host, str) or not isinstance(ip_of(host), IPv4Address):
            shown = repr(redact(host)) if isinstance(host, str) else a_value_of(host)
            raise SettingsError(f"host is an IPv4 address of this machine, not {shown}")
        if port is not None and (type(port) is not int or not 0 < port < 65536):
            shown = repr(port) if isinstance(port, int) else a_value_of(port)
            raise SettingsError(f"port is None or 1 to 65535, not {shown}")
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise SettingsError(f"name has letters, digits, '-' and '_' only, not {name!r}")
        if isinstance(vhosts, str):
            raise SettingsError(f"vhosts is a sequence of names, not the single name {vhosts!r}")
        for one, its_password in {user: password, **(users or {})}.items():
            require_text("user", one)
            if its_password is not None:
                require_text("password", its_password)
        for vhost in vhosts:
            check_short_text("vhosts", vhost)
        for key, value in (config or {}).items():
            check_utf8("config", f"{key}{value}")
        if joins is not None:
            _check_first(joins, host)
            if user != "miros" or password is not None or users or tuple(vhosts) != ("/",):
                raise SettingsError(
                    "a cluster has the users and virtual hosts of its first node: leave out user=, "
                    "password=, users= and vhosts= with joins="
                )
            user, password = joins.user, joins.password
        self.host = host
        self.user: str = user
        self.password: str = secrets.token_urlsafe(16) if password is None else password
        self.name: str = name or f"miros-{secrets.token_hex(4)}"
        self._vhosts = tuple(vhosts)
        self._users = {**(users or {}), self.user: self.password}
        self._config = dict(config or {})
        self._joins = joins
        self._has_joined = False  # whether the cluster may know a node of this name
        self._wanted_port = port
        self._port = port
        self._files: NodeFiles | None = None
        self._process: NodeProcess | None = None
        # Reentrant: restart() calls start(), and a signal handler may stop a node that boots.
        self._lock = threading.RLock()
        self._endings: list[int] = []  # the threads that wait for the lock to end the node
        disown_in_child(self, Stage.BROKERS)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<LocalBroker {self.name} {self.host}:{self._port or '?'} {state}>"

    @property
    def port(self) -> int:
        """The AMQP port.

        Raises:
            LocalBrokerError: ``start()``, which chooses the port, was not called yet.
        """
        if self._port is None:
            raise LocalBrokerError(f"{self.name} has no port before start()")
        return self._port

    @property
    def address(self) -> Address:
        """Host and port."""
        return Address(self.host, self.port)

    @property
    def log_path(self) -> Path:
        """The node's log file; it exists from ``start()`` to ``stop()``.

        Raises:
            LocalBrokerError: the node has no folder, as it was not started, or was stopped.
        """
        return self._own_files().log

    @property
    def is_running(self) -> bool:
        """Whether the node's process exists, even if it is paused."""
        process = self._process
        return process is not None and process.is_running

    def url(self, vhost: str = "/") -> AmqpUrl:
        """The AMQP URL of a virtual host, for the node's user.

        Args:
            vhost: the virtual host's name.

        Raises:
            LocalBrokerError: ``start()``, which chooses the port, was not called yet.
        """
        return amqp_url(self.user, self.password, self.address, vhost)

    @naming_shortage(forks=True)
    def start(self, timeout: float = START_TIMEOUT_S) -> None:
        """Start the node, and wait until clients can log in. Does nothing if it runs already.

        After ``kill()`` the node comes back with its data; after ``stop()`` it is a new, empty one.

        Args:
            timeout: how long it may take, in seconds.

        Raises:
            LocalBrokerError: RabbitMQ is not installed (the message says what to install); the
                node does not start (the message has the end of its log); the node whose cluster
                it is to join does not run, or does not answer; or another thread has called
                ``stop()`` or ``kill()`` meanwhile.
            OutOfResources: this process has no file descriptor or memory left, or may start no
                further process.
        """
        with self._lock:
            if self.is_running:
                return
            began_s = time.monotonic()
            is_new = self._files is None or self._process is None
            try:
                if self._wanted_port is not None:
                    self._check_port(self._wanted_port)
                files, process = self._make_folder()
                for attempts_left in reversed(range(_PORT_ATTEMPTS)):
                    if self._wanted_port is None and not files.has_booted:
                        taken = files.founder.control_port if files.founder else 0
                        self._port = free_port(self.host, other_than=taken)
                    outcome = self._boot(files, process, began_s, timeout)
                    if outcome is Boot.READY:
                        if is_new and files.founder is not None:
                            self._join(files.founder, began_s + timeout)
                        took_s = time.monotonic() - began_s
                        logger.info("%s is ready after %.1f s", self._title, took_s)
                        self._warn_if_exposed()
                        return
                    is_port_taken = outcome is Boot.ENDED and "eaddrinuse" in files.log_tail()
                    if not is_port_taken or attempts_left == 0:
                        raise self._boot_error(outcome, files, timeout)
            except BaseException:
                if is_new:
                    self._end(grace=0)
                elif self._process is not None:
                    self._process.shut_down(grace=0)
                raise

    def stop(self) -> None:
        """End the node and remove its data. Idempotent; takes about 1 s, at most some 15 s.

        A node that responds tells its clients that it shuts down. If another thread is booting
        the node, the boot is ended and ``start()`` raises in that thread.
        """
        with self._ending():
            self._end(grace=GRACE_S)

    def kill(self) -> None:
        """End the node as a power cut would (SIGKILL); its data stays for ``restart()``.

        If another thread is booting the node, the boot is ended and ``start()`` raises in that
        thread. If that was the node's first boot, no data stays.
        """
        with self._ending():
            if self._process is not None:
                self._process.shut_down(grace=0)

    def restart(self, timeout: float = START_TIMEOUT_S) -> None:
        """Start the node again, with its data, on the same port; a running one is shut down first.

        Args:
            timeout: how long the start may take, in seconds.

        Raises:
            LocalBrokerError: the node has no data, as it was never started or was stopped; or it
                is not ready within ``timeout`` seconds.
        """
        with self._lock:
            self._own_files()
            if self._process is not None:
                self._process.shut_down(GRACE_S)
            self.start(timeout)

    def pause(self) -> None:
        """Freeze the node (SIGSTOP): its connections stay open, and it answers nothing.

        Raises:
            LocalBrokerError: it is not running.
        """
        with self._lock:
            self._require_running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused node continue (SIGCONT).

        Raises:
            LocalBrokerError: it is not running.
        """
        with self._lock:
            self._require_running().signal(signal.SIGCONT)

    @naming_shortage(forks=True)
    def ctl(self, *args: str, stdin: str = "", timeout: float = CTL_TIMEOUT_S) -> str:
        """Run ``rabbitmqctl`` on this node, as in ``broker.ctl("list_queues", "name")``.

        Args:
            *args: the command and its arguments. Not a password, as every user of the machine may
                see the arguments of a running program.
            stdin: what the command reads from its standard input: ``add_user``, ``change_password``
                and ``authenticate_user`` the password. (``import_definitions`` reads none on
                RabbitMQ 4.0: name a file.)
            timeout: how long it may take, in seconds.

        Returns:
            what the command wrote to its standard output: data only, no headings, unless there is
            a ``stdin``.

        Raises:
            LocalBrokerError: the node is not running, or the command failed; the message has what
                the command wrote to its standard error.
            OutOfResources: this process cannot run it; see `start`.
        """
        self._require_running()
        files = self._own_files()
        # That of RabbitMQ 4.0 counts its arguments, options too, to find out whether to read.
        command = [files.rabbitmqctl, *([] if stdin else ["--silent"]), *args]
        what = f"rabbitmqctl {args[0] if args else ''} on {self.name}".replace("  ", " ")
        try:
            done = subprocess.run(
                command,
                env=files.ctl_environment(),
                cwd=files.folder,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalBrokerError(f"{what} gave no answer within {timeout:g} s") from error
        if done.returncode != 0:
            complaint = (done.stderr.strip() or done.stdout.strip()) or "no reason given"
            raise LocalBrokerError(f"{what} failed: {complaint}")
        return done.stdout

    # What the module `process` calls.

    def ask_to_end(self) -> None:
        """Kill the node, as the program ends. Does not wait."""
        process = self._process
        if process is not None:
            process.signal(signal.SIGKILL)

    def end(self, began_s: float) -> None:
        """Wait for the node's end, and for its data to be removed; some 15 s at most.

        Args:
            began_s: when the program began to end. A killed node needs no other limit than that
                of its processes.
        """
        with self._ending():
            self._end(grace=0)

    def disown(self) -> None:
        """Forget the node, in a forked child: it belongs to the parent."""
        self._lock = threading.RLock()  # a thread that held the old one does not exist here
        self._endings = []
        if self._process is not None:
            self._process.disown()
        self._process = self._files = None

    def __enter__(self) -> LocalBroker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _own_files(self) -> NodeFiles:
        if self._files is None:
            raise LocalBrokerError(f"{self.name} has no data: it is not started, or was stopped")
        return self._files

    def _require_running(self) -> NodeProcess:
        process = self._process
        if process is None or not process.is_running:
            raise LocalBrokerError(f"{self.name} is not running")
        return process

    def _make_folder(self) -> tuple[NodeFiles, NodeProcess]:
        """The node's folder and its watchdog; makes them if they do not exist."""
        if self._files is None or self._process is None:
            rabbitmq = find_rabbitmq()
            founder = None if self._joins is None else self._admitted(self._joins)
            self._process = NodeProcess()
            folder = self._process.folder
            self._files = NodeFiles(folder, rabbitmq, self.name, self.host, founder)
            end_with_program(self, Stage.BROKERS)
        return self._files, self._process

    @property
    def _title(self) -> str:
        """Names the node in a log line."""
        return f"the private RabbitMQ node {self.name} on {self.address}"

    def _boot(self, files: NodeFiles, process: NodeProcess, began_s: float, timeout: float) -> Boot:
        """Run the node until it is ready, or until it is clear that it will not be."""

        def say_it_is_slow() -> None:
            waited_s = time.monotonic() - began_s
            logger.warning(
                "%s has been starting for %.0f s: this machine is slow or busy. The start may take "
                "%g s (the timeout of start)",
                self._title,
                waited_s,
                timeout,
            )

        logger.info("%s is being started, which takes some seconds", self._title)
        # That of a cluster is the same for all its nodes, and stays.
        if files.founder is not None:
            control_port = files.founder.control_port
        elif files.has_booted:
            control_port = files.as_founder.control_port
        else:
            control_port = free_port(files.control_host, other_than=self.port)
        files.write(self.address, control_port, self._users, self._vhosts, self._config)
        outcome = process.boot(
            files.rabbitmq_server,
            files.server_environment(),
            notify=files.notify,
            console=files.console,
            deadline=began_s + timeout,
            is_unwanted=lambda: bool(self._endings),
            is_slow=say_it_is_slow,
        )
        files.has_booted |= outcome is Boot.READY
        return outcome

    def _admitted(self, first: LocalBroker) -> Founder:
        """What this node, which has no data, needs to join the cluster of another one.

        Raises:
            LocalBrokerError: the other one is not running.
        """
        files = first._files
        if not first.is_running or files is None or not files.has_booted:
            raise LocalBrokerError(
                f"{self.name} cannot join {first.name}, which is not running: start that one first"
            )
        if self._has_joined:
            # The cluster may still have the one that was stopped, and its queues.
            with contextlib.suppress(LocalBrokerError):
                first.ctl("forget_cluster_node", f"{self.name}@{self.host}")
        self._has_joined = True
        return files.as_founder

    def _join(self, founder: Founder, deadline: float) -> None:
        """Let this node, which runs alone, join a cluster; that takes about 3 s.

        Not by RabbitMQ's peer discovery: that of 4.0 starts an Erlang beside, which would listen on
        the control port, too.

        Raises:
            LocalBrokerError: it cannot, or another thread wants it to end.
        """
        for command in (["stop_app"], ["join_cluster", founder.node_name], ["start_app"]):
            if self._endings:
                raise self._boot_error(Boot.STOPPED, self._own_files(), 0.0)
            self.ctl(*command, timeout=max(1.0, deadline - time.monotonic()))

    def _warn_if_exposed(self) -> None:
        """Say it if the node is not only for programs of this machine."""
        if not is_loopback(self.host):
            logger.warning(
                "%s can be reached from other machines; an address of 127.0.0.0/8 would keep it to "
                "this machine",
                self._title,
            )

    def _check_port(self, port: int) -> None:
        """Check that the node can listen on the port that was chosen for it."""
        error = why_not_free(self.host, port)
        if error is None:
            return
        if shortage(error) is not None:
            raise error
        where = Address(self.host, port)
        if error.errno == errno.EADDRINUSE:
            raise LocalBrokerError(
                f"{where} is in use by another program, perhaps another LocalBroker: end that, "
                "choose another port, or leave port= out for one that is free. On Linux, "
                f"'ss -ltnp sport = :{port}' shows which program it is"
            ) from error
        raise LocalBrokerError(f"cannot listen on {where}: {error.strerror}") from error

    def _boot_error(self, outcome: Boot, files: NodeFiles, timeout: float) -> LocalBrokerError:
        """The error that says why the node does not run."""
        what = f"{self.name} on {self.address} {outcome.value}"
        if outcome is Boot.STOPPED:
            return LocalBrokerError(what)
        limit = f" ({timeout:g} s)" if outcome is Boot.LATE else ""
        return LocalBrokerError(f"{what}{limit}; the end of its log:\n{files.log_tail()}")

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Hold the lock; a boot in another thread, which holds it, gives up."""
        self._endings.append(threading.get_ident())  # a list's methods are atomic
        try:
            self._lock.acquire()
        finally:
            self._endings.pop()
        try:
            yield
        finally:
            self._lock.release()

    def _end(self, grace: float) -> None:
        """End the node, its watchdog and its folder."""
        if self._process is not None:
            self._process.end(grace)
        self._process = self._files = None
        stay(self, Stage.BROKERS)


def _check_first(first: object, host: str) -> None:
    """Check that a node on a host can join another one.

    Raises:
        SettingsError: it cannot.
    """
    if not isinstance(first, LocalBroker):
        raise SettingsError(f"joins is a LocalBroker, not {a_value_of(first)}")
    if host == first.host or not (is_loopback(host) and is_loopback(first.host)):
        raise SettingsError(
            "nodes of a cluster are reached at the same control port, so each needs a loopback "
            f"address of its own, such as 127.0.0.3: not {host} beside {first.host}"
        )
