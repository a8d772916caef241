"""What is gone since release 0.2 says what has taken its place."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

import miros_rabbitmq
from miros_rabbitmq import LocalAreaNetwork, MirosNets, network
from miros_rabbitmq.older import LAN, NETS, NETWORK


class Miros:
    name = "lamp"

    def post_fifo(self, event: Any) -> None: ...


@pytest.fixture
def nets() -> MirosNets:
    return MirosNets(Miros(), "robot", "rabbit", Fernet.generate_key(), addresses=[])


@pytest.mark.parametrize("name", NETS)
def test_an_older_attribute_of_the_nets_names_the_new_one(nets: MirosNets, name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(nets, name)
    assert str(caught.value) == f"MirosNets has no {name} since release 1: {NETS[name]}"


@pytest.mark.parametrize("name", LAN)
def test_an_older_attribute_of_the_lan_names_the_new_one(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no {name} since release 1: {LAN[name]}"):
        getattr(LocalAreaNetwork([]), name)


@pytest.mark.parametrize("name", NETWORK)
def test_an_older_name_of_the_module_says_so_when_it_is_imported(name: str) -> None:
    with pytest.raises(ImportError, match=f"no {name} since release 1"):
        exec(f"from miros_rabbitmq.network import {name}")  # noqa: S102


def test_what_is_still_there_can_be_imported_from_the_older_path() -> None:
    for name in network.__all__:
        assert getattr(network, name) is getattr(miros_rabbitmq, name)


def test_any_other_name_is_told_as_by_python(nets: MirosNets) -> None:
    owners: list[Any] = [nets, LocalAreaNetwork([]), network]
    for owner in owners:
        assert not hasattr(owner, "__length_hint__")
        with pytest.raises(AttributeError, match=r"has no attribute 'nonsense'$"):
            owner.nonsense  # noqa: B018
