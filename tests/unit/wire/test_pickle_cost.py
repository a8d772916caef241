"""What the walk keeps in place of values: weights, depth, the memo, and the tally."""

from __future__ import annotations

import pytest

from miros_rabbitmq.wire.opcodes import TOKEN_BYTES, OpcodeRefused
from miros_rabbitmq.wire.pickle_cost import (
    FEW_KEYS,
    MAX_DEPTH,
    MAX_MEMORY_BYTES,
    MAX_NUMBER_KEYS,
    NUMBER_BYTES,
    OBJECT,
    ORDERED,
    THE_MARK,
    Class,
    Item,
    List,
    Mapping,
    Memo,
    Tally,
    Tuple,
    key_bytes,
    node_of,
)


def test_a_container_weighs_what_is_put_into_it_wherever_it_is_used() -> None:
    inner = List()
    inner.add([100, -5])
    weight = inner.weight
    outer = List()
    outer.add([inner, inner.shared(), inner.shared()])
    assert outer.weight > 3 * weight > 3 * 105


def test_containers_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    node = List()
    for _ in range(MAX_DEPTH - 1):
        outer = List()
        outer.add([node])
        node = outer
    assert node.depth == MAX_DEPTH
    with pytest.raises(OpcodeRefused, match=f"more than {MAX_DEPTH} deep"):
        List().add([node])


def test_a_mark_is_no_value() -> None:
    with pytest.raises(OpcodeRefused, match="mark"):
        List().add([1, THE_MARK])


def test_a_class_is_a_value_only_where_it_may_be() -> None:
    List().add([Class(b"cown\nClass\n", may_be_value=True)])
    with pytest.raises(OpcodeRefused, match=r"decimal\.Decimal itself"):
        List().add([Class(b"cdecimal\nDecimal\n", may_be_value=False)])


def test_a_list_that_contains_itself_may_not_have_parts_elsewhere() -> None:
    whole, part = List(), List()
    part.add([whole.shared()])
    whole.add([part])
    assert whole.is_cyclic
    with pytest.raises(OpcodeRefused, match="refers back"):
        part.shared()


def test_a_node_is_found_whether_it_comes_from_the_stack_or_from_the_memo() -> None:
    node = Tuple()
    assert node_of(node) is node
    assert node_of(node.shared()) is node
    assert node_of(5) is None


@pytest.mark.parametrize(
    ("key", "is_number", "is_unusual"),
    [(7, False, False), (-3, True, False), (-NUMBER_BYTES, True, False), (Tuple(), True, True)],
    ids=["text", "number", "large number", "tuple"],
)
def test_keys_are_classified_by_what_is_known_of_their_hashes(
    key: Item, is_number: bool, is_unusual: bool
) -> None:
    assert (key_bytes(key) > 0) is is_number
    assert (key_bytes(key) > NUMBER_BYTES) is is_unusual


def test_the_memo_returns_no_less_than_what_may_be_there() -> None:
    memo = Memo(largest=1_000)
    memo.put(3, [50])
    memo.put(300, [50])
    memo.put(4, [-9])
    assert memo.get(3) == memo.get(300) == TOKEN_BYTES
    assert memo.get(4) == -TOKEN_BYTES
    assert memo.light[3] == 50
    assert memo.are_light([b"\x03"])
    assert not memo.are_light([b"\x03", b"\x04"])
    node = List()
    memo.put(5, [node])
    assert node_of(memo.get(5)) is node


def test_the_memo_takes_new_values_only_and_no_index_beyond_the_largest() -> None:
    memo = Memo(largest=10)
    with pytest.raises(OpcodeRefused, match="index 11"):
        memo.put(11, [1])
    for item in (THE_MARK, List().shared()):
        with pytest.raises(OpcodeRefused, match="not a new value"):
            memo.put(1, [item])


def test_the_tally_refuses_more_memory_than_the_limit() -> None:
    tally = Tally(size=100)
    before = tally.memory
    tally.take_container()
    for _ in range((MAX_MEMORY_BYTES - tally.memory) // (tally.memory - before)):
        tally.take_container()
    with pytest.raises(OpcodeRefused, match="bytes of memory"):
        tally.take_container()


def test_the_tally_refuses_more_number_keys_than_the_limit_in_any_portions() -> None:
    for portion in (1, 1_000, MAX_NUMBER_KEYS):
        tally, node = Tally(size=1), Mapping(1, at=9)
        for _ in range(MAX_NUMBER_KEYS // portion):
            tally.take_keys(node, [2] * portion)
        with pytest.raises(OpcodeRefused, match="neither text nor bytes"):
            tally.take_keys(node, [2])


def test_text_keys_cost_no_comparisons() -> None:
    tally, node = Tally(size=1), Mapping(1, at=9)
    tally.take_keys(node, [0] * (2 * MAX_NUMBER_KEYS))
    assert not tally.needs_key_check


def test_the_tally_names_the_mappings_whose_key_hashes_somebody_has_to_look_at() -> None:
    tally = Tally(size=1)
    for at in (30, 9, OBJECT, ORDERED):
        tally.take_keys(Mapping(1, at), [NUMBER_BYTES + 20] * 300)
    tally.take_keys(Mapping(1, at=50), [NUMBER_BYTES + 20])
    assert 4 * 300 * 300 * (NUMBER_BYTES + 20) > FEW_KEYS
    assert tally.needs_key_check
    assert tally.mappings_at() == (9, 30)
