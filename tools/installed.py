"""Compare the package that pip installed with its sources, import each module of it, and try it.

Trying is: two charts talk to each other through a private RabbitMQ on a loopback address.

Run it by the Python of an environment that has the package and what it needs, and nothing else:
``python -I tools/installed.py SOURCES``. With ``-I`` the sources in the present folder are not what
is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGE = "miros_rabbitmq"

NEEDS_MORE = {"miros_rabbitmq.testing": "pytest"}
"""Modules that need more than the package's dependencies, and what they need."""


def files(folder: Path) -> set[str]:
    """Every file of a package, by its path within."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def main(sources: Path) -> None:
    """Exit with a message at the first difference; otherwise print how much was compared."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"{PACKAGE} is not installed")
    folder = Path(spec.origin).parent
    if folder == sources.resolve():
        sys.exit(f"these are the sources, not what was installed: {folder}")
    there, wanted = files(folder), files(sources)
    if there != wanted:
        sys.exit(f"missing: {sorted(wanted - there)}, not of the sources: {sorted(there - wanted)}")
    if "py.typed" not in there:
        sys.exit("py.typed is missing: type checkers would not read the annotations")
    modules = sorted(
        ".".join((PACKAGE, *Path(name).with_suffix("").parts)).removesuffix(".__init__")
        for name in there
        if name.endswith(".py")
    )
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name != NEEDS_MORE.get(name):
                raise
    package = importlib.import_module(PACKAGE)
    if package.__version__ != version("miros-rabbitmq"):
        sys.exit(f"__version__ is {package.__version__}, and pip says {version('miros-rabbitmq')}")
    talk(package)
    print(f"{len(there)} files installed, {len(modules)} modules imported, one event exchanged")


def talk(package: Any) -> None:
    """Let one chart of the package hear what another one says."""
    import miros  # it came with the package
    from cryptography.fernet import Fernet

    heard = threading.Event()

    @miros.spy_on
    def listening(chart: Any, e: Any) -> Any:
        if e.signal == miros.signals.HELLO:
            heard.set()
            return miros.return_status.HANDLED
        chart.temp.fun = chart.top
        return miros.return_status.SUPER

    pid = os.getpid()
    # An address that hardly anybody else has.
    with package.LocalBroker(f"127.{pid % 200 + 20}.{pid // 200 % 256}.4") as broker:
        of_network = (broker.user, broker.password, Fernet.generate_key())
        there = {"rabbit_host": broker.host, "rabbit_port": broker.port, "addresses": []}
        with (
            package.NetworkedActiveObject("ear", *of_network, **there) as ear,
            package.NetworkedActiveObject("mouth", *of_network, **there) as mouth,
        ):
            ear.start_at(listening)
            mouth.start_at(listening)
            mouth.transmit(miros.Event(signal=miros.signals.HELLO))
            if not heard.wait(30):
                sys.exit("an event was not heard")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
