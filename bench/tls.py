"""Round trips over TLS, beside raw pika over TLS."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.broker.node_process import free_port
from tests.broker.certificates import make

from .figure import Result, Size
from .stage import Stage
from .traffic import beside_raw_trips

HOSTS = "127.0.0.2", "127.0.0.3"


@contextlib.contextmanager
def open_tls() -> Iterator[Stage]:
    """Start two nodes that take TLS, with certificates that the roles trust."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        authority = make("authority")
        file = Path(folder) / "authority.pem"
        authority.write(file, Path(folder) / "authority.key")
        nodes: list[LocalBroker] = []
        ports = []
        for host in HOSTS:
            pair = Path(folder) / f"{host}.pem", Path(folder) / f"{host}.key"
            make(host, host, by=authority).write(*pair)
            ports.append(free_port(host))
            config = {
                "listeners.ssl.1": f"{host}:{ports[-1]}",
                "ssl_options.cacertfile": str(file),
                "ssl_options.certfile": str(pair[0]),
                "ssl_options.keyfile": str(pair[1]),
            }
            password = nodes[0].password if nodes else None
            nodes.append(stack.enter_context(LocalBroker(host, config=config, password=password)))
        stage = Stage(*nodes)
        addresses = [f"{host}:{port}" for host, port in zip(HOSTS, ports, strict=True)]
        options = f"ssl_options={{'ca_certs':'{file}'}}"
        login = f"{nodes[0].user}:{nodes[0].password}"
        stage.urls = (
            f"amqps://{login}@{addresses[0]}/%2F?{options}",
            f"amqps://{login}@{addresses[1]}/%2F?{options}",
        )
        for chart, port in zip(stage.charts, ports, strict=True):
            chart.update(rabbit_port=port, addresses=addresses)
        before = os.environ.get(_CAFILE)
        os.environ[_CAFILE] = str(file)  # for the roles
        try:
            yield stage
        finally:
            if before is None:
                del os.environ[_CAFILE]
            else:
                os.environ[_CAFILE] = before


_CAFILE = "RABBIT_TLS_CAFILE"


def tls(stage: Stage, size: Size) -> Result:
    """Round trips of charts, of raw pika and of the floor, in turns, all over TLS."""
    return beside_raw_trips("tls", stage, size, at_most=1.25)
