"""Runs one target under atheris: ``python -m tests.fuzz.drive TARGET FOLDER SECONDS``.

Atheris instruments the whole package, and so sees which inputs reach new code. Each finding is left
in the folder as ``crash-*``, and each input that reached new code in its subfolder ``corpus``.
LibFuzzer writes its statistics to standard error. Only ``make fuzz`` installs atheris.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["miros_rabbitmq", "json", "urllib"]):
    from tests.fuzz import targets

_MEMORY_BYTES = 512 * 1024 * 1024
"""What a target may take beyond what the process has at the start."""


def main(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one target.

    Args:
        name: a key of `targets.TARGETS`.
        folder: where the findings and the corpus go.
        seconds: how long to go on.
    """
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
        targets.TARGETS[name](seed)  # so that modules which Python imports late are imported now
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES, used + _MEMORY_BYTES))
    options = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={targets.MAX_BYTES}",
        "-timeout=10",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
        str(corpus),
    ]
    atheris.Setup(options, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
