"""The targets of ``make fuzz`` pass with their seeds, and with inputs that once were findings."""

from __future__ import annotations

import pytest

from miros_rabbitmq.wire.pickle_cost import Budget

from ..fuzz import targets

FOUND = {
    "url": [b"host:" + b"1" * 5_000, b"a\nb:1", b"user:C4nary-p4ssw0rd@[host"],
    "hosts_file": [
        b"\xef\xbb\xbf{}\xef{\xbf}",
        b'{"hosts": [' + b"1" * 5_000 + b"]}",
        b"[" * 5_000,
    ],
    "cache_file": [b'{"time": 1' + b"0" * 5_000 + b"}", b"[" * 5_000, b'{"time": NaN}'],
    "unpickler": [b"K\x01" + b"\x85" * 3_000 + b".", b"K\x01r\xff\xff\xff\x7f."],
    "json": [b"1e400", rb'"\ud800"', rb'{"\udfff":1}', b"[" * 4_000, b"9" * 4_301],
    "message": [b"", b"gAAAA", b"\n" * 4_096],
    "records": [b"", b"\x10" * 16, b"\x80\x03" + b"]" * 3_000],
    "window": [b""],
}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_passes_with_its_seeds_and_with_earlier_findings(name: str) -> None:
    for data in [*targets.seeds(name), *FOUND.get(name, ())]:
        targets.TARGETS[name](data)


def test_the_unpickler_target_finds_a_budget_that_is_used_up_and_does_not_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pay(budget: Budget, count: int) -> None:
        budget.steps -= count

    data = b"(" + b"N\x85" * 1_500 + b"t."
    targets.unpickler(data)
    monkeypatch.setattr(Budget, "take_steps", pay)
    with pytest.raises(targets.Found, match="used up"):
        targets.unpickler(data)
