"""The pages on installation and deployment, and the quick tests of examples/deployment.

``make deployment`` tries the rest on machines with systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker

from ..helpers import scaled, wait_until
from .documents import ROOT, other_blocks_of, programs_of
from .test_documents import as_if_there, run

__all__ = ["as_if_there"]  # a fixture

PAGE = "docs/installation.rst"
FILES = ROOT / "examples" / "deployment"
UNIT = FILES / "robot.service"


def done(
    *command: str | Path, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
        **options,
    )


def tool(name: str) -> str:
    """A program of the environment or of the system.

    The environment of CI has those that ``.[test]`` names; only systemd's own may be missing there.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        if os.environ.get("CI") and not name.startswith("systemd"):
            pytest.fail(f"{name} is not installed: it comes with pip install '.[test]'")
        pytest.skip(f"{name} is not installed")
    return found


def test_the_check_of_the_installation_prints_what_the_page_says(tmp_path: Path) -> None:
    program = programs_of(PAGE)["check.py"]
    # At an address of its own, so that no other run of the tests has its port.
    address = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}.5"
    (tmp_path / "check.py").write_text(program.code.replace("127.0.0.2", address), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    said = done(sys.executable, "check.py", cwd=tmp_path, env=environment)
    assert (said.stdout, said.stderr, said.returncode) == (program.printed, "", 0)


def test_the_other_python_of_the_installation_page_runs(as_if_there: dict[str, Any]) -> None:
    run(PAGE, as_if_there)


def test_the_exchanges_of_the_role_are_those_of_the_security_page() -> None:
    (of_page,) = other_blocks_of("docs/security.rst", "json")
    assert (FILES / "roles/robot/files/definitions.json").read_text(encoding="utf-8") == of_page


def test_the_permissions_of_the_role_are_those_of_the_security_page() -> None:
    security = (ROOT / "docs/security.rst").read_text(encoding="utf-8")
    users = (FILES / "roles/robot/tasks/users.yml").read_text(encoding="utf-8")
    patterns = re.findall(r"robot_(?:configure|use): ('.*')", users)
    assert len(patterns) == 2
    for pattern in patterns:
        assert pattern in security
    assert "miros.listener".replace(".", r"\.") in users


def test_users_in_a_container_may_do_what_the_role_lets_them_do() -> None:
    role = (FILES / "roles/robot/tasks/users.yml").read_text(encoding="utf-8")
    script = (FILES / "users.sh").read_text(encoding="utf-8")
    patterns = re.findall(r"robot_(configure|use): '(.*)'", role)
    assert re.findall(r"^(configure|use)='(.*)'$", script, re.MULTILINE) == patterns
    (write,) = re.findall(r"robot_write: '(.*)'", role)
    (read,) = re.findall(r"robot_read: '(.*)'", role)
    of_ada = write.replace("{{ item }}", "ada")
    quoted = re.search(r'miros\.mesh \\\n +"(.*)" \'(.*)\'', script)
    assert quoted is not None
    said = done("sh", "-c", f'robot=ada; printf %s "{quoted[1]}"')
    assert (said.stdout, quoted[2]) == (of_ada, read)


def test_the_builder_of_the_image_is_sent_all_that_it_copies() -> None:
    lines = (FILES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sent = (FILES / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert "*" in sent
    assert copied == {line[1:] for line in sent if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    # Its program need not be there.
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/robot/venv/bin/python", sys.executable), encoding="utf-8")
    said = done(tool("systemd-analyze"), "verify", unit)
    assert (said.returncode, said.stderr) == (0, "")


def test_the_unit_has_the_exposure_that_the_page_says() -> None:
    said = done(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", UNIT)
    level = re.search(r"exposure level for robot.service: ([\d.]+) (\w+)", said.stdout)
    if level is None:
        pytest.skip("this systemd cannot judge a file")
    page = (ROOT / "docs/deployment.rst").read_text(encoding="utf-8")
    told = re.search(r"rates it ([\d.]+) to ([\d.]+) of 10 \(\*(\w+)\*\)", page)
    assert told is not None
    assert float(told[1]) <= float(level[1]) <= float(told[2])
    assert level[2] == told[3]


def test_the_yaml_is_tidy() -> None:
    said = done(tool("yamllint"), "--strict", ".", cwd=FILES)
    assert (said.stdout, said.returncode) == ("", 0)


def test_ansible_understands_the_playbook(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(tmp_path)}
    command = tool("ansible-playbook"), "--syntax-check", "site.yml"
    said = done(*command, cwd=FILES, env=environment)
    assert said.returncode == 0, said.stderr


def test_the_compose_file_keeps_the_specification() -> None:
    said = done(
        tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILES / "compose.yaml"
    )
    assert said.returncode == 0, said.stdout


def test_the_robot_runs_by_its_environment_and_ends_on_sigterm(
    tmp_path: Path, broker_a: LocalBroker
) -> None:
    (tmp_path / "mesh.key").write_text("\n".join(Fernet.generate_key().decode() for _ in "ab"))
    (tmp_path / "rabbit.password").write_text(broker_a.password + "\n")
    environment = {
        **{name: value for name, value in os.environ.items() if "RABBIT" not in name},
        "PYTHONPATH": str(ROOT),
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "ROBOT_NAME": broker_a.user,
        "RABBIT_HOST": str(broker_a.address),
    }
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        robot = subprocess.Popen(
            [sys.executable, FILES / "robot.py"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: "connected as" in (tmp_path / "log").read_text(), 30)
            robot.terminate()
            assert robot.wait(scaled(30)) == 0
        finally:
            robot.kill()
    assert broker_a.password not in (tmp_path / "log").read_text()
