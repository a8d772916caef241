"""Programs are found where the system has them, and never in the working directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miros_rabbitmq.programs import find_program


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the working directory, and in folders below it."""
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "ping").write_text("#!/bin/sh\ntouch it-ran\n")
        (folder / "ping").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("path", [".", "", "bin", "./bin", ":.:", "../x", os.pathsep * 3])
@pytest.mark.usefixtures("planted")
def test_a_relative_folder_of_path_is_passed_over(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    with pytest.raises(FileNotFoundError, match="'ping'"):
        find_program("ping")
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/bin")
    assert find_program("sh") == "/bin/sh"


def test_an_absolute_one_counts_in_its_order(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f".:{planted / 'bin'}:{planted}")
    assert find_program("ping") == str(planted / "bin" / "ping")
    (planted / "bin" / "ping").chmod(0o644)
    assert find_program("ping") == str(planted / "ping")


def test_without_path_the_usual_folders_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert os.path.isabs(find_program("sh"))
