"""LocalBroker on a machine without an epmd, and on an address that others may reach."""

from __future__ import annotations

import pytest

from .conftest import MakeLan
from .netns import Namespace

NODE = """
import json, logging
log = []
class Keep(logging.Handler):
    def emit(self, record): log.append((record.levelname, record.getMessage()))
logging.getLogger("miros_rabbitmq").addHandler(Keep())
from miros_rabbitmq.broker.local_broker import LocalBroker
with LocalBroker("{host}") as broker:
    print(json.dumps(dict(vhosts=broker.ctl("list_vhosts").split(), log=log)))
"""


@pytest.mark.usefixtures("rabbitmq_installed")
def test_a_node_is_controlled_without_any_epmd(lonely: Namespace) -> None:
    assert lonely.run(NODE.format(host="127.0.0.2")) == {"vhosts": ["/"], "log": []}


@pytest.mark.usefixtures("rabbitmq_installed")
def test_a_node_that_other_machines_may_reach_works_and_warns_of_them(make_lan: MakeLan) -> None:
    lan = make_lan("10.66.1.0/24")
    answer = lan.host(7).run(NODE.format(host=lan.address(7)))
    assert answer["vhosts"] == ["/"]
    [(level, message)] = answer["log"]
    assert level == "WARNING"
    assert f" on {lan.address(7)}:" in message
    assert "127.0.0.0/8" in message
