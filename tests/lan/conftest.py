"""Tests on local networks of their own, made of network namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from .netns import Lan, Namespace, lan_of, why_not


@pytest.fixture(scope="session", autouse=True)
def _in_namespaces() -> None:
    """Skip the tests of this folder if there are no namespaces; in CI they fail instead."""
    reason = why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


class MakeLan(Protocol):
    def __call__(self, network: str) -> Lan: ...


@pytest.fixture
def make_lan() -> Iterator[MakeLan]:
    """Make local networks, which are removed after the test."""
    with ExitStack() as stack:

        def make(network: str) -> Lan:
            return stack.enter_context(lan_of(network))

        yield make


@pytest.fixture
def lonely() -> Iterator[Namespace]:
    """A machine without a cable."""
    machine = Namespace()
    try:
        yield machine
    finally:
        machine.close()
