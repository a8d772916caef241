"""The commands of docs/security.rst, as an administrator runs them, on a private node."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from miros_rabbitmq import LocalBroker

from ..examples.documents import other_blocks_of

PAGE = "docs/security.rst"

USER, PASSWORD = "robot", "it's a $ecret"

_NOTING = r"""
install() { :; }
rabbitmqctl() {
    count=$((${count:-0} + 1)); line=
    for arg in "$@"; do line="$line \"$(printf %s "$arg" | sed -e 's/"/\\"/g')\""; done
    sh -c "printf '%s\\0' $line" > "$count.arguments"
    cat > "$count.input"
}
"""
"""As Debian has it: each argument goes through another shell, between double quotes. The file with
the definitions stays where it is."""


class Commands(NamedTuple):
    """What the page has, block by block, in its order."""

    convenient: str
    narrow: str
    topics: str
    limits: str


def commands_of_the_page() -> Commands:
    """The blocks for ``rabbitmqctl``."""
    blocks = other_blocks_of(PAGE, "sh")
    return Commands(*[block for block in blocks if "rabbitmqctl " in block])


def run(node: LocalBroker, commands: str, folder: Path) -> None:
    """Run commands as they stand on the page; a password is typed when it is asked for."""
    (definitions,) = other_blocks_of(PAGE, "json")
    (folder / "miros.json").write_text(definitions, encoding="utf-8")
    for left in folder.glob("[0-9]*.*"):
        left.unlink()
    subprocess.run(
        ["bash", "-euc", _NOTING + commands.replace("/etc/rabbitmq/", f"{folder}/")],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    count = commands.count("rabbitmqctl ")
    assert len(list(folder.glob("[0-9]*.arguments"))) == count
    for number in range(1, count + 1):
        noted = (folder / f"{number}.arguments").read_bytes().decode().split("\0")[:-1]
        typed = (folder / f"{number}.input").read_text(encoding="utf-8")
        if noted == ["add_user", USER]:
            typed = f"{PASSWORD}\n"
        node.ctl(*noted, stdin=typed)
