"""Compare the package that pip installed with its sources, and import each module of it.

Run it by the Python of an environment that has the package and what it needs, and nothing else:
``python -I tools/installed.py SOURCES``. With ``-I`` the sources in the present folder are not what
is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

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
    print(f"{len(there)} files installed, {len(modules)} modules imported")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
