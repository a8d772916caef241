"""The Python blocks of each document run, from the first to the last, as one program."""

from __future__ import annotations

import builtins
import logging
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import miros
import pytest
from cryptography.fernet import Fernet

import miros_rabbitmq
from miros_rabbitmq import (
    DEFAULT_ROUTING_KEY,
    Limits,
    LocalBroker,
    Settings,
)
from miros_rabbitmq.urls import DEFAULT_PORT

from ..helpers import wait_until
from .documents import ROOT, blocks_of

HERE = Path(__file__).parent
DOCUMENTS = (
    "README.rst",
    *(
        f"docs/{page}.rst"
        for page in ("quick_start", "how_it_works", "settings", "messages", "api/errors")
    ),
)


@pytest.fixture
def as_if_there(
    broker_a: LocalBroker,
    broker_b: LocalBroker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[dict[str, Any]]:
    """Has the documents' hosts, user and password mean private brokers; gives their names.

    Nothing is looked for on the machine's own network.
    """
    hosts = {
        "192.168.1.71": str(broker_a.address),
        "192.168.1.72": str(broker_b.address),
    }
    charts: list[Any] = []

    def localized(arguments: list[Any], options: dict[str, Any]) -> None:
        for position, value in enumerate(arguments):
            if value == "robot" and arguments[position + 1] == "rabbit":
                arguments[position : position + 2] = [broker_a.user, broker_a.password]
        host = options.get("rabbit_host", "192.168.1.71")
        options["rabbit_host"] = hosts.get(host, host)
        named = options.get("addresses")
        options["addresses"] = [hosts.get(one, one) for one in named or ()]

    def here(kind: Any) -> Any:
        class Here(kind):  # type: ignore[misc]  # of several classes
            def __init__(self, *arguments: Any, **options: Any) -> None:
                given = list(arguments)
                localized(given, options)
                super().__init__(*given, **options)
                charts.append(self)

        return Here

    for name in ("NetworkedActiveObject", "NetworkedFactory", "RabbitScout"):
        monkeypatch.setattr(miros_rabbitmq, name, here(getattr(miros_rabbitmq, name)))
    plain = miros.ActiveObject

    def remembered(*arguments: Any) -> Any:
        charts.append(plain(*arguments))
        return charts[-1]

    monkeypatch.setattr(miros, "ActiveObject", remembered)
    key = Fernet.generate_key()
    (tmp_path / "mesh.key").write_bytes(key)
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("miros_rabbitmq").level
    yield {"MESH_KEY": key, "input": lambda _: None}
    logging.getLogger("miros_rabbitmq").setLevel(level)
    for chart in charts:
        if hasattr(chart, "stop") and chart.thread is not None:
            chart.stop()


def run(document: str, names: dict[str, Any]) -> None:
    """Run the pieces of a document; `test_programs` runs its whole programs."""
    blocks = [block for block in blocks_of(document) if not block.program]
    assert blocks
    for block in blocks:
        # Our own text. Blank lines in front make a traceback name the line of the document.
        code = "\n" * block.line + block.code
        exec(compile(code, str(ROOT / document), "exec"), names)  # noqa: S102


def with_names(names: dict[str, Any]) -> dict[str, Any]:
    """What the whole programs of a page have defined before the pieces of code that follow."""
    return {
        **names,
        "Event": miros.Event,
        "NetworkedActiveObject": miros_rabbitmq.NetworkedActiveObject,
        "NetworkedFactory": miros_rabbitmq.NetworkedFactory,
        "Path": Path,
        "listening": listening,
        "signals": miros.signals,
    }


def test_the_python_in_the_quick_start_runs(as_if_there: dict[str, Any]) -> None:
    """The two machines as machines are in tests/lan."""
    run("docs/quick_start.rst", with_names(as_if_there))


def test_every_page_with_python_is_run_here() -> None:
    """A piece of code that nobody runs goes wrong unseen."""
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.rst")} | {"README.rst"}
    tests = "".join(test.read_text(encoding="utf-8") for test in HERE.glob("test_*.py"))
    for page in pages:
        assert not blocks_of(page) or f'"{page}"' in tests, page
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count(".. code-block:: python") == len(blocks_of(page)), page


@pytest.mark.parametrize(
    "document",
    [
        "docs/delivery.rst",
        "docs/discovery.rst",
        "docs/messages.rst",
        "docs/security.rst",
        "docs/settings.rst",
    ],
)
def test_the_python_in_the_other_pages_runs(
    document: str,
    as_if_there: dict[str, Any],
    broker_a: LocalBroker,
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = with_names(as_if_there)
    names["chart"] = names["NetworkedActiveObject"](
        "hob", "robot", "rabbit", as_if_there["MESH_KEY"]
    )
    names["chart"].start_at(listening)
    run(document, names)
    assert broker_a.password not in capfd.readouterr().out


def test_the_program_on_failures_ends_with_the_error_of_its_handler(
    as_if_there: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {**as_if_there, "NetworkedActiveObject": miros_rabbitmq.NetworkedActiveObject}
    rule, program, several = (block.code for block in blocks_of("docs/life.rst"))
    exec(rule, names)  # noqa: S102  # our own text
    handled: list[Any] = []
    monkeypatch.setattr(signal, "signal", lambda *handler: handled.append(handler))

    def stumble() -> None:
        wait_until(lambda: "walker" in names and names["walker"].nets.is_running)
        names["walker"].post_fifo(miros.Event(signal="WALK", payload=0))

    walk = threading.Thread(target=stumble)
    walk.start()
    with pytest.raises(ZeroDivisionError):
        exec(program, names)  # noqa: S102
    walk.join()
    assert [number for number, _ in handled] == [signal.SIGINT, signal.SIGTERM]
    for _, handler in handled:
        with pytest.raises(SystemExit) as caught:
            handler()
        assert caught.value.code == 0
    exec(several, names)  # noqa: S102
    names["charts"][1].stop()
    names["run_until_one_stops"](names["charts"])


@miros.spy_on
def listening(chart: Any, e: miros.Event) -> Any:
    chart.temp.fun = chart.top
    return miros.return_status.SUPER


def table_of(document: str, first: str) -> dict[str, str]:
    """The first two columns of the table that begins with a row; no name is there twice."""
    text = (ROOT / document).read_text(encoding="utf-8")
    table = text[text.index(f"\n``{first}``") :].partition("\n===")[0]
    rows = re.findall(r"^``(\w+)`` +(\S.*?)(?:  .*)?$", table, re.MULTILINE)
    assert len(rows) == len(dict(rows)) == table.count("\n``")
    return {name: default.replace("`", "") for name, default in rows}


def test_the_table_of_limits_has_every_limit_and_its_default() -> None:
    table = table_of("docs/settings.rst", "connect_timeout_s")
    # Both ways and in the same order: every limit has a row, and every row is a limit.
    assert list(table) == [item.name for item in fields(Limits)]
    assert table == {item.name: str(item.default) for item in fields(Limits)}


def test_the_table_of_settings_has_every_setting_and_its_default() -> None:
    table = table_of("docs/settings.rst", "name")
    settings = [item for item in fields(Settings) if item.init]
    assert list(table) == ["name", *(item.name for item in settings)]
    told = {name: default.removesuffix(" s").strip('"') for name, default in table.items()}
    for item in settings:
        if isinstance(item.default, (bool, int, float, str)):
            assert told[item.name] == str(item.default), item.name
        is_required = item.default is MISSING and item.default_factory is MISSING
        assert (told[item.name] == "required") is is_required, item.name
    # What stands in for None, () or a sentinel.
    assert told["tx_routing_key"] == DEFAULT_ROUTING_KEY
    assert told["rabbit_port"] == str(DEFAULT_PORT)
    for name in ("allowed_classes", "on_peers_changed", "on_delivery_problem", "tls", "max_age_s"):
        assert told[name] == "none"


def test_the_index_lists_every_page() -> None:
    text = (ROOT / "docs/index.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([\w/]+)$", text, re.MULTILINE)
    pages = {page.stem for page in (ROOT / "docs").glob("*.rst")} - {"index"}
    assert sorted(listed) == sorted(pages | {"api/index"})


def test_the_readme_names_only_pages_and_targets_that_exist() -> None:
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    for page in re.findall(r"``(docs/\w+\.rst)``", text):
        assert (ROOT / page).is_file(), page
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)\b(?=``|  )", text):
        assert f"\n{target}:" in makefile, target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_documents_name_only_classes_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in re.findall(r"``((?:[A-Z][a-z]+){2,})``", text):
        assert any(hasattr(there, name) for there in (miros_rabbitmq, miros, builtins)), name


def test_the_readme_has_two_screens_and_the_two_commands() -> None:
    """A screen is what a code host shows at once, of a page laid out."""
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert len(text.splitlines()) <= 150


def test_every_page_that_installs_the_package_does_so_from_a_checkout_into_an_environment() -> None:
    """On PyPI, the name alone brings another package; and Debian's Python refuses pip."""
    pages = [ROOT / "README.rst", ROOT / "CHANGELOG.rst", *(ROOT / "docs").glob("*.rst")]
    installing = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"pip3? install .*miros-rabbitmq(?!>=1)", text), page
        if "    pip install .\n" in text:
            installing.append(page.name)
            before = text[: text.index("    pip install .\n")]
            assert before.endswith("    python3 -m venv .venv\n    . .venv/bin/activate\n"), page
            assert "``miros-rabbitmq>=1``" in text, page
    assert sorted(installing) == ["README.rst", "installation.rst", "quick_start.rst"]


def test_the_readme_is_laid_out_without_a_complaint() -> None:
    core = pytest.importorskip("docutils.core")
    for page in (ROOT / "README.rst", ROOT / "CHANGELOG.rst"):
        settings = {"syntax_highlight": "none", "report_level": 1, "halt_level": 1}
        core.publish_doctree(page.read_text(encoding="utf-8"), settings_overrides=settings)


def test_the_pages_name_only_tests_that_exist() -> None:
    for page in (ROOT / "docs").glob("*.rst"):
        for path in re.findall(r"``(tests/[\w/.]+)``", page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), (page.name, path)
