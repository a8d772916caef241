"""Tests on real RabbitMQ nodes, which the machine has to have."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _on_rabbitmq(rabbitmq_installed: None) -> None:
    """Every test of this folder needs RabbitMQ."""
