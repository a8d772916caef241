"""A robot that runs as a service: it says who it is every few seconds, and logs who else is there.

A service manager or a container starts it. It has no option: what differs from machine to machine
comes from the environment, and what is secret from files.

=========================  =====================================================================
variable                   meaning
=========================  =====================================================================
``ROBOT_NAME``             the chart's name, the RabbitMQ user and the word in its routing key
``RABBIT_HOST``            this machine's own broker, by the address that others reach
``RABBIT_TLS_CAFILE``      the authority of the brokers' certificates; the package reads it
``ROBOT_MAX_AGE_S``        refuse events that are older; only where clocks agree
``CREDENTIALS_DIRECTORY``  the folder with ``mesh.key``, one key a line, and ``rabbit.password``
=========================  =====================================================================

The other brokers stand in ``.miros_rabbitmq_hosts.json`` in the working directory.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from miros import Event, return_status, signals, spy_on

from miros_rabbitmq import NetworkedActiveObject

logger = logging.getLogger("robot")
PERIOD_S = 5.0


@spy_on
def on_duty(robot: NetworkedActiveObject, e: Event) -> Any:
    """The outer state: says that it is here, from time to time."""
    if e.signal == signals.ENTRY_SIGNAL:
        robot.post_fifo(Event(signal=signals.SAY_IT), period=PERIOD_S, deferred=False)
        return return_status.HANDLED
    if e.signal == signals.SAY_IT:
        robot.transmit(Event(signal=signals.HERE, payload=robot.name))
        return return_status.HANDLED
    robot.temp.fun = robot.top
    return return_status.SUPER


@spy_on
def alone(robot: NetworkedActiveObject, e: Event) -> Any:
    """Nobody else has been heard yet."""
    if e.signal == signals.HERE:
        logger.info("%s is here, too", e.payload)
        return robot.trans(in_company)
    robot.temp.fun = on_duty
    return return_status.SUPER


@spy_on
def in_company(robot: NetworkedActiveObject, e: Event) -> Any:
    """Somebody else is there."""
    robot.temp.fun = on_duty
    return return_status.SUPER


def secret(name: str) -> list[str]:
    """The lines of a file that the service manager lets this program alone read."""
    return (Path(os.environ["CREDENTIALS_DIRECTORY"]) / name).read_text(encoding="utf-8").split()


def main() -> None:
    """Run until somebody sends SIGTERM, or a handler raises."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    name = os.environ["ROBOT_NAME"]
    (password,) = secret("rabbit.password")
    robot = NetworkedActiveObject(
        name,
        rabbit_user=name,
        rabbit_password=password,
        mesh_encryption_key=secret("mesh.key"),  # the first encrypts, all decrypt
        tx_routing_key=f"robots.{name}",
        rx_routing_key="robots.#",
        rabbit_host=os.environ["RABBIT_HOST"],
        addresses=[],  # no search: only the brokers of the hosts file
        accept_unknown_peers=False,
        max_age_s=float(os.environ.get("ROBOT_MAX_AGE_S") or 0) or None,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    robot.start_at(alone)
    robot.wait()


if __name__ == "__main__":
    main()
