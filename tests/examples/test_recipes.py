"""The programs and pieces of "docs/kinds.rst", "docs/recipes.rst", "docs/recipes_keys.rst" and
"docs/recipes_programs.rst" do what the pages say."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker

from ..helpers import complaints, scaled, wait_until
from .documents import ROOT, Block, other_blocks_of, programs_of
from .test_documents import as_if_there, run, with_names
from .test_programs import here

__all__ = ["as_if_there"]

pytestmark = pytest.mark.usefixtures("rabbitmq_installed")

PAGES = ("docs/kinds.rst", "docs/recipes.rst", "docs/recipes_keys.rst", "docs/recipes_programs.rst")
KEYS = "docs/recipes_keys.rst"
PROGRAMS = "docs/recipes_programs.rst"
ALL = {page: programs_of(page) for page in PAGES}
THAT_PRINT = [(page, one) for page, blocks in ALL.items() for one in blocks.values() if one.printed]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A plain environment, with a folder of its own for temporary files."""
    (tmp_path / "tmp").mkdir()
    python = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{python}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path / "tmp"),
        "FORCE_COLOR": "",
        "NO_COLOR": "1",
    }


@pytest.mark.parametrize(
    ("page", "block"), THAT_PRINT, ids=[f"{page} {one.program}" for page, one in THAT_PRINT]
)
def test_a_program_prints_what_its_page_says(
    page: str, block: Block, environment: dict[str, str], tmp_path: Path
) -> None:
    for one in ALL[page].values():  # some import another one
        (tmp_path / one.program).write_text(here(one.code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, block.program],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )
    assert (done.stdout, done.returncode) == (block.printed, 0), done.stderr
    assert complaints(done.stderr) == ""


@pytest.mark.parametrize("page", ["docs/recipes.rst", KEYS])
def test_the_pieces_of_a_page_run(page: str, as_if_there: dict[str, Any]) -> None:
    run(page, {"chart": None, **with_names(as_if_there)})


@pytest.mark.parametrize("page", PAGES)
def test_no_program_of_a_page_is_left_untried(page: str) -> None:
    """Those that print nothing have a test of their own, or are imported by others."""
    silent = {name for name, block in ALL[page].items() if not block.printed}
    tried = {
        "docs/recipes.rst": {"shapes.py"},
        KEYS: {"reads_keys.py", "robot.py"},
        PROGRAMS: {"cell_1.py", "cell_2.py", "cell_3.py", "service.py"},
    }
    assert silent == tried.get(page, set())


def test_a_key_is_read_from_the_file_that_the_page_makes(
    environment: dict[str, str], tmp_path: Path
) -> None:
    make = other_blocks_of(KEYS, "sh")[0]
    subprocess.run(["sh", "-euc", make], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "mesh.keys").stat().st_mode & 0o077 == 0
    (tmp_path / "reads_keys.py").write_text(ALL[KEYS]["reads_keys.py"].code, encoding="utf-8")
    program = [
        sys.executable,
        "-c",
        "import reads_keys; print(*reads_keys.chart.nets.stats().mesh.keys)",
    ]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"[0-9a-f]{8}\n", done.stdout)


def test_the_cells_of_the_notebook_show_what_the_lamp_does(
    environment: dict[str, str], tmp_path: Path, broker_a: LocalBroker
) -> None:
    """The cells as one program, the first one twice."""
    first, press, show = (ALL[PROGRAMS][f"cell_{number}.py"].code for number in (1, 2, 3))
    wait = "import time\nwhile not any('off->dim' in line for line in lines): time.sleep(0.05)\n"
    lamp = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "from os import environ\nfrom lamp import Lamp, off\n"
        'lamp = Lamp("lamp", environ["RABBIT_USER"], environ["RABBIT_PASSWORD"],'
        ' environ["MESH_KEY"], rabbit_host=environ["RABBIT_HOST"], addresses=[])\n'
        "lamp.enable_snoop_trace()\nlamp.start_at(off)\nprint('on', flush=True)\nlamp.wait()\n"
    )
    environment.update(at(broker_a), PYTHONPATH=f"{ROOT}:{ROOT / 'examples' / 'two_terminals'}")
    (tmp_path / "notebook.py").write_text(first + first + press + wait + show, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", lamp], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            while "on\n" not in process.stdout.readline():
                pass
            done = subprocess.run(
                [sys.executable, "notebook.py"],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=scaled(60),
                check=False,
            )
        finally:
            process.terminate()
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert re.fullmatch(
        r"\[[-0-9]{10} [0-9:.]{15}\] \[lamp\] e->PRESS\(\) off->dim", done.stdout.splitlines()[-1]
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_service_ends_well(
    number: signal.Signals, environment: dict[str, str], tmp_path: Path, broker_a: LocalBroker
) -> None:
    (tmp_path / "service.py").write_text(ALL[PROGRAMS]["service.py"].code, encoding="utf-8")
    environment.update(at(broker_a))
    before = queues(broker_a)
    with subprocess.Popen(
        [sys.executable, "service.py"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(lambda: queues(broker_a) - before, 30, "the queue of the service")
            process.send_signal(number)
            _, said = process.communicate(timeout=scaled(30))
        finally:
            process.kill()
    assert (process.returncode, complaints(said)) == (0, "")
    assert not queues(broker_a) - before


def at(broker: LocalBroker) -> dict[str, str]:
    """What the programs read from the environment."""
    return {
        "RABBIT_USER": broker.user,
        "RABBIT_PASSWORD": broker.password,
        "RABBIT_HOST": str(broker.address),
        "MESH_KEY": Fernet.generate_key().decode(),
    }


def queues(broker: LocalBroker) -> set[str]:
    return {line for line in broker.ctl("list_queues", "name").split() if line.startswith("miros.")}


class Robot:
    """One robot of the page on its machine, which is a folder."""

    def __init__(
        self, name: str, folder: Path, brokers: list[LocalBroker], environment: dict[str, str]
    ) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir()
        self._environment = environment
        user, password = brokers[0].user, brokers[0].password
        code = ALL[KEYS]["robot.py"].code.replace('"robot", "rabbit"', f"{user!r}, {password!r}")
        (folder / "robot.py").write_text(code, encoding="utf-8")
        self.log = folder / "log"
        self._arguments = [name, *(str(one.address) for one in brokers)]

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "robot.py", *self._arguments],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def do(self, commands: str) -> None:
        subprocess.run(["sh", "-euc", commands], cwd=self.folder, env=self._environment, check=True)

    @property
    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def has_changed(self, times: int) -> bool:
        return len([line for line in self.lines if ": keys (" in line]) == times


@pytest.fixture
def robots(
    environment: dict[str, str], tmp_path: Path, broker_a: LocalBroker, broker_b: LocalBroker
) -> list[Robot]:
    a, b = [broker_a, broker_b], [broker_b, broker_a]
    places = {"anna": a, "bert": a, "carl": b}
    return [Robot(name, tmp_path / name, at, environment) for name, at in places.items()]


def test_the_rotation_of_the_page_loses_no_event(
    robots: list[Robot], environment: dict[str, str], tmp_path: Path
) -> None:
    first, make_new, *steps = other_blocks_of(KEYS, "sh")
    assert len(steps) == 3
    robots[0].do(first)
    robots[0].do(make_new)
    for robot in robots[1:]:
        for name in ("mesh.keys", "new.key"):
            (robot.folder / name).write_bytes((robots[0].folder / name).read_bytes())
    old, new = ((robots[0].folder / name).read_text().strip() for name in ("mesh.keys", "new.key"))
    expected = [[old, new], [new, old], [new]]
    with ExitStack() as stack:
        for robot in robots:
            process = stack.enter_context(robot.start())
            stack.callback(process.kill)
        for robot in robots:
            wait_until((robot.folder / "robot.pid").exists, 30, robot.log.read_text)
        time.sleep(1)  # so that there is traffic before the first step
        for number, (commands, keys) in enumerate(zip(steps, expected, strict=True), 1):
            for robot in robots:
                robot.do(commands)
                assert (robot.folder / "mesh.keys").read_text().split() == keys
                # One machine after the other: in between, they have different lists.
                wait_until(functools.partial(robot.has_changed, number), 30, robot.log.read_text)
        time.sleep(1)
        for robot in robots:
            robot.process.send_signal(signal.SIGTERM)
        for robot in robots:
            assert robot.process.wait(scaled(30)) == 0, robot.lines
    for robot in robots:
        others = {one.name for one in robots} - {robot.name}
        heard = dict(
            re.findall(
                rf"^{robot.name}: heard (?:\d+) of (\w+), (\d+) missing$",
                "\n".join(robot.lines),
                re.MULTILINE,
            )
        )
        assert heard == dict.fromkeys(others, "0"), robot.lines
        assert robot.lines[-1] == f"{robot.name}: rejected 0"
        ids = [line.partition("keys ")[2] for line in robot.lines if ": keys (" in line]
        assert all(line.endswith("True") for line in ids)
        assert ids == [line.partition("keys ")[2] for line in robots[0].lines if ": keys (" in line]
    # What the page shows is what they write, but for the ids and the numbers.
    wrote = "\n".join("\n".join(one.lines) for one in robots)
    (shown,) = (block for block in other_blocks_of(KEYS, "text") if "anna: keys" in block)
    assert without_numbers(wrote) == without_numbers(shown.strip())


def test_the_first_two_steps_in_one_would_lose_events(robots: list[Robot]) -> None:
    """What the page says of the order is true: whoever speaks new too early is not understood."""
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    anna, bert, _ = robots
    with ExitStack() as stack:
        for robot in (anna, bert):
            (robot.folder / "mesh.keys").write_text(old)
            process = stack.enter_context(robot.start())
            stack.callback(process.kill)
        for robot in (anna, bert):
            wait_until((robot.folder / "robot.pid").exists, 30, robot.log.read_text)
        (anna.folder / "mesh.keys").write_text(f"{new}\n{old}\n")
        wait_until(lambda: anna.process.poll() is None and _hup(anna), 30)
        wait_until(lambda: "not authenticated by a key of ours" in bert.log.read_text(), 30)
        for robot in (anna, bert):
            robot.process.send_signal(signal.SIGTERM)
            robot.process.wait(scaled(30))
    assert bert.lines[-1] != "bert: rejected 0"


def without_numbers(text: str) -> str:
    return re.sub(r"heard \d+", "heard N", re.sub(r"'[0-9a-f]{8}'", "ID", text))


def _hup(robot: Robot) -> bool:
    robot.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    return robot.has_changed(1) or ": keys (" in robot.log.read_text()
