"""The pages on troubleshooting have every error and log line of the package, and no others."""

from __future__ import annotations

import faulthandler
import logging
import re
import signal
from typing import Any

import pytest
from miros import Event, signals

import miros_rabbitmq
from miros_rabbitmq import (
    DropReason,
    PeerSource,
    ProbeOutcome,
    ProblemKind,
    RejectReason,
    exceptions,
)

from .documents import ROOT
from .messages import TESTS, Text, entries_of, is_quoted, quoted, texts
from .test_documents import as_if_there, listening, run

__all__ = ["as_if_there"]  # a fixture

PAGE = "docs/messages.rst"

SYMPTOMS = "docs/troubleshooting.rst"

NOT_SHOWN = {
    # Options of programs, scripts and commands; the lines that have a command are on the page.
    "broker/node_files.py": ("+S 1:1", "\0 -name", "\0 -dist_listen", "-start_epmd"),
    "broker/node_process.py": ("\nids=", "echo $$"),
    "remedies.py": ("rabbit_misc:r(", "rabbit_exchange:delete("),
    "discovery/hosts_file.py": ('{"hosts"',),
    # What Python itself says of a name that a module does not have.
    "__init__.py": ("module ",),
    # The page for users of release 0.2 has them.
    "older.py": (
        "it ",
        "import ",
        "nets.",
        "the ",
        "a terminal",
        "use ",
        "read ",
        "write ",
        "its ",
    ),
    # What RabbitMQ says, or is taken to say.
    "amqp/queue_claim.py": ("in exclusive use",),
    "closings.py": ("unknown delivery tag", "number of channels opened"),
    # Values of enums that no line has; stats() shows some of them.
    "delivery/progress.py": ("it gets on", "it has just", "it is still", "it was stuck"),
    "delivery/window.py": (
        "above everything",
        "below something",
        "in a range",
        "a window",
        "there",
    ),
    "discovery/devices.py": ("may have a link",),
    "discovery/roster.py": ("a member that", "no member, "),
    # Told by a table of its own, see below.
    "discovery/outcome.py": ("no such vhost", "closed by the broker", "out of resources", "vhost "),
    # A value of `OutOfResources.what`.
    "resources.py": ("threads at exit",),
    # Checks of the package's own code: no call of a user leads there.
    "amqp/link_state.py": ("\0: \0 has no step",),
    "amqp/reactor.py": ("the reactor has no poller",),
    "amqp/services.py": ("the reactor runs by itself",),
    "nets/settings.py": ("the docstring of",),
    "wire/age.py": ("before the start",),
    "wire/sealer.py": ("a Sealer cannot be copied",),
}
"""Texts that are in no error and no log line, by module: their beginnings."""


def is_shown(text: Text) -> bool:
    """Whether a text may reach a user."""
    return not text.words.startswith(NOT_SHOWN.get(text.module, ()) or ("\n\n",))


@pytest.fixture(scope="module")
def shown() -> list[Text]:
    return [text for text in texts() if is_shown(text)]


def test_every_error_and_log_line_is_on_the_page(shown: list[Text]) -> None:
    entries = entries_of(PAGE)
    missing = [str(text) for text in shown if not any(map(text.pattern.search, entries))]
    assert not missing, "\n".join(missing)


def test_every_entry_of_the_page_is_in_the_package() -> None:
    # The name of a thread may have two words.
    patterns = [text.pattern for text in texts(least_words=2) if is_shown(text)]
    stale = [one for one in entries_of(PAGE) if not any(it.search(one) for it in patterns)]
    assert not stale, "\n".join(stale)


def test_no_text_is_taken_for_hidden_that_is_not_there() -> None:
    hidden = [text for text in texts() if not is_shown(text)]
    for module, beginnings in NOT_SHOWN.items():
        for beginning in beginnings:
            assert any(
                text.module == module and text.words.startswith(beginning) for text in hidden
            ), (module, beginning)


def test_the_pages_have_every_error_and_every_reason() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    errors = [
        name
        for name, one in vars(exceptions).items()
        if isinstance(one, type) and issubclass(one, exceptions.MirosRabbitMQError)
    ]
    reference = (ROOT / "docs/api/errors.rst").read_text(encoding="utf-8")
    tree = reference.partition("The tree\n")[2].partition("Who raises what\n")[0]
    for name in errors:
        assert re.search(rf"^ +- `{name}`", tree, re.MULTILINE), name
        assert f".. autoexception:: miros_rabbitmq.{name}\n" in reference, name
    for outcome in ProbeOutcome:
        assert f"   * - *{outcome.value}* (``{outcome.name}``)\n" in page, outcome
    for kind in ProblemKind:
        assert f"   * - ``{kind.value}`` (``{kind.name}``)\n" in page, kind


def test_the_python_in_the_page_runs(
    as_if_there: dict[str, Any],  # the fixture
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    registered: list[int] = []
    monkeypatch.setattr(faulthandler, "register", registered.append)
    chart = miros_rabbitmq.NetworkedActiveObject("lamp", "robot", "rabbit", as_if_there["MESH_KEY"])
    chart.start_at(listening)
    chart.transmit(Event(signal=signals.TOGGLE))
    run(SYMPTOMS, {"chart": chart})
    printed = capsys.readouterr().out
    assert "connected" in printed
    assert printed.splitlines()[-2].startswith("1 ")
    assert "PRESENT" in printed
    assert registered == [signal.SIGUSR1]


UNQUOTED = 91
"""So many texts are quoted by no test. Tests provoke most of these, too, and ask for less than the
words, such as for a reason or a counter. A new text has a test of its words: this may only go down.
"""


def test_each_new_text_is_quoted_by_the_test_that_provokes_it(shown: list[Text]) -> None:
    pieces = quoted()
    names = {
        reason.value: reason.name
        for reasons in (RejectReason, DropReason, ProblemKind, ProbeOutcome, PeerSource)
        for reason in reasons
    }
    named = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py"))
    missing = [
        str(text)
        for text in shown
        if text.logged != "info"
        and not is_quoted(text, pieces)
        and not (text.words in names and re.search(rf"\b{names[text.words]}\b", named))
    ]
    assert len(missing) <= UNQUOTED, "\n".join(missing)
