"""A private, throw-away RabbitMQ node for demos and tests: ``LocalBroker``.

Starts the RabbitMQ that is installed on this machine as an ordinary child process, with everything
of its own: node name, data folder, address, ports, users, virtual hosts, Erlang cookie. It has no
plugins, takes no part in the machine's own RabbitMQ service, and leaves nothing behind. What is
exchanged with it (pika) is no concern of this module; what it is made of is in ``node_files``, and
how its processes are held in ``node_process``: it goes when this process goes, however that ends.

It runs without ``epmd``: the distribution port that ``rabbitmqctl`` needs is handed to both.
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from ..exceptions import LocalBrokerError, SettingsError
from ..process import in_forked_child
from ..urls import Address, AmqpUrl, amqp_url
from .free_port import free_port
from .node_files import NodeFiles, find_rabbitmq
from .node_process import Boot, NodeProcess

START_TIMEOUT_S = 60.0
"""How long a boot may take: about 4 s on two free cores, many times that on a busy CI machine."""

GRACE_S = 5.0
"""How long a node may take to close its connections before it is killed; 1 s is usual."""

CTL_TIMEOUT_S = 60.0
"""How long one rabbitmqctl command may take; half a second is usual."""

_PORT_ATTEMPTS = 3
"""How often a boot is tried when somebody else was quicker to take a port that was free."""

_brokers: set[LocalBroker] = set()
"""Those with a folder: to be ended when the interpreter exits, to be forgotten in a fork."""


class LocalBroker:
    """A private RabbitMQ node on a loopback address, for demos and tests.

    1. Make one; nothing happens yet.
    2. ``start()`` it, or enter it as a context manager; it is ready when that returns.
    3. Hand ``url()``, or ``host``, ``port``, ``user`` and ``password``, to its clients.
    4. Hurt it as you like: ``kill()``, ``pause()``, ``resume()``, ``restart()``, ``ctl()``.
    5. ``stop()`` it, or leave the context; no process, port or file is left.

    ::

        with LocalBroker("127.0.0.2") as broker:
            print(broker.ctl("list_vhosts"))

    All methods may be called from any thread; they wait for each other, except that ``stop()`` and
    ``kill()`` do not wait for a boot: they end it. A forked child does not own its parent's broker
    and cannot end it. When the owning process dies, even by SIGKILL, the node goes with it.

    Args:
        host: the IPv4 address it listens on, one of this machine: of 127.0.0.0/8, or of a
            network namespace.
        port: its AMQP port; a free one is chosen at ``start()`` when None.
        user: the name of its user, who may do everything in every virtual host.
        password: of that user; random when None.
        vhosts: the names of its virtual hosts.
        users: more users with the same rights, as name to password.
        name: the part of its Erlang node name before the ``@``; random when None.
        config: further settings, by their names in ``rabbitmq.conf``.

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
    ) -> None:
        try:
            ipaddress.IPv4Address(host)
        except ValueError as error:
            raise SettingsError(f"host is an IPv4 address of this machine, not {host!r}") from error
        if port is not None and not 0 < port < 65536:
            raise SettingsError(f"port is None or 1 to 65535, not {port!r}")
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise SettingsError(f"name has letters, digits, '-' and '_' only, not {name!r}")
        if isinstance(vhosts, str):
            raise SettingsError(f"vhosts is a sequence of names, not the one name {vhosts!r}")
        self.host = host
        self.user = user
        self.password = secrets.token_urlsafe(16) if password is None else password
        self.name = name or f"miros-{secrets.token_hex(4)}"
        self._vhosts = tuple(vhosts)
        self._users = {**(users or {}), self.user: self.password}
        self._config = dict(config or {})
        self._wanted_port = port
        self._port = port
        self._files: NodeFiles | None = None
        self._process: NodeProcess | None = None
        # Reentrant, as restart() starts, and a handler of a signal may stop what is booting.
        self._lock = threading.RLock()
        self._endings: list[int] = []  # the threads that wait for the lock to end the node

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<LocalBroker {self.name} {self.host}:{self._port or '?'} {state}>"

    @property
    def port(self) -> int:
        """The AMQP port.

        Raises:
            LocalBrokerError: it is to be chosen by ``start()``, which was not called yet.
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
            LocalBrokerError: the node has no folder, as it is not started.
        """
        return self._own_files().log

    @property
    def is_running(self) -> bool:
        """Whether the node's process lives, be it paused or not."""
        process = self._process
        return process is not None and process.is_running

    def url(self, vhost: str = "/") -> AmqpUrl:
        """The AMQP URL of a virtual host, for the node's user."""
        return amqp_url(self.user, self.password, self.address, vhost)

    def start(self, timeout: float = START_TIMEOUT_S) -> None:
        """Start the node, and wait until clients can log in; nothing if it runs already.

        After ``kill()`` this is ``restart()``; after ``stop()`` it is a new, empty node.

        Args:
            timeout: how long it may take, in seconds.

        Raises:
            LocalBrokerError: RabbitMQ is not installed, or the node does not start; the message
                says what to install, or has the end of the node's log. Or another thread called
                ``stop()`` or ``kill()`` meanwhile.
        """
        with self._lock:
            if self.is_running:
                return
            deadline = time.monotonic() + timeout
            is_new = self._files is None or self._process is None
            files, process = self._make_folder()
            try:
                for attempts_left in reversed(range(_PORT_ATTEMPTS)):
                    if self._wanted_port is None and not files.has_booted:
                        self._port = free_port(self.host)
                    outcome = self._boot(files, process, deadline)
                    if outcome is Boot.READY:
                        return
                    is_port_taken = outcome is Boot.ENDED and "eaddrinuse" in files.log_tail()
                    if not is_port_taken or attempts_left == 0:
                        raise self._boot_error(outcome, files, timeout)
            except BaseException:
                if is_new:
                    self._end(grace=0)
                else:
                    process.shut_down(grace=0)
                raise

    def stop(self) -> None:
        """End the node and remove its data. Idempotent; takes about 1 s, at most some 15 s.

        Its clients are told that it shuts down, as long as it answers. A boot in another thread is
        ended: ``start()`` raises there.
        """
        with self._ending():
            self._end(grace=GRACE_S)

    def kill(self) -> None:
        """End the node as a power cut would (SIGKILL); its data stays for ``restart()``.

        A boot in another thread is ended: ``start()`` raises there. If it was the first, there is
        no data.
        """
        with self._ending():
            if self._process is not None:
                self._process.shut_down(grace=0)

    def restart(self, timeout: float = START_TIMEOUT_S) -> None:
        """Start the node again, with its data, on the same port; a running one is shut down first.

        Raises:
            LocalBrokerError: it has no data, as it was never started or was stopped; or it does
                not come up within ``timeout`` seconds.
        """
        with self._lock:
            self._own_files()
            if self._process is not None:
                self._process.shut_down(GRACE_S)
            self.start(timeout)

    def pause(self) -> None:
        """Freeze the node (SIGSTOP): its connections stay open, and nothing is answered.

        Raises:
            LocalBrokerError: it is not running.
        """
        with self._lock:
            self._require_running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused node go on (SIGCONT).

        Raises:
            LocalBrokerError: it is not running.
        """
        with self._lock:
            self._require_running().signal(signal.SIGCONT)

    def ctl(self, *args: str, timeout: float = CTL_TIMEOUT_S) -> str:
        """Run ``rabbitmqctl`` on this node, as in ``broker.ctl("list_queues", "name")``.

        Args:
            *args: the command and its arguments.
            timeout: how long it may take, in seconds.

        Returns:
            What it wrote to its standard output: data only, no headings.

        Raises:
            LocalBrokerError: the node is not running, or the command failed; has its complaint.
        """
        self._require_running()
        files = self._own_files()
        command = [files.rabbitmqctl, "--silent", *args]
        what = f"rabbitmqctl {args[0] if args else ''} on {self.name}".replace("  ", " ")
        try:
            done = subprocess.run(
                command,
                env=files.ctl_environment(),
                cwd=files.folder,
                stdin=subprocess.DEVNULL,
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
        """The node's folder and its watchdog, made if they are not there."""
        if self._files is None or self._process is None:
            rabbitmq = find_rabbitmq()
            self._process = NodeProcess()
            self._files = NodeFiles(self._process.folder, rabbitmq, self.name, self.host)
            _brokers.add(self)
        return self._files, self._process

    def _boot(self, files: NodeFiles, process: NodeProcess, deadline: float) -> Boot:
        """Run the node until it is ready, or will not be."""
        control_port = free_port(files.control_host, other_than=self.port)
        files.write(self.address, control_port, self._users, self._vhosts, self._config)
        outcome = process.boot(
            files.rabbitmq_server,
            files.server_environment(),
            notify=files.notify,
            console=files.console,
            deadline=deadline,
            is_unwanted=lambda: bool(self._endings),
        )
        files.has_booted |= outcome is Boot.READY
        return outcome

    def _boot_error(self, outcome: Boot, files: NodeFiles, timeout: float) -> LocalBrokerError:
        """Say why the node does not run."""
        what = f"{self.name} on {self.address} {outcome.value}"
        if outcome is Boot.STOPPED:
            return LocalBrokerError(what)
        limit = f" ({timeout:g} s)" if outcome is Boot.LATE else ""
        return LocalBrokerError(f"{what}{limit}; the end of its log:\n{files.log_tail()}")

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Hold the lock; a boot that holds it now is given up."""
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
        _brokers.discard(self)

    def _disown(self) -> None:
        """Forget the node, in a forked child: it is the parent's."""
        self._lock = threading.RLock()  # whoever held the old one does not exist here
        self._endings = []
        if self._process is not None:
            self._process.disown()
        self._process = self._files = None


@atexit.register
def _end_all() -> None:
    for broker in list(_brokers):
        broker._end(grace=0)


@in_forked_child
def _disown_all() -> None:
    for broker in list(_brokers):
        broker._disown()
    _brokers.clear()
