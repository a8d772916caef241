"""What a broker may still say of what was published."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.amqp.owed import Owed


def published(count: int) -> Owed:
    owed = Owed()
    for size in range(count):
        owed.note_published(size)
    return owed


def test_each_message_is_confirmed_and_returned_once() -> None:
    owed = published(2)
    assert owed.most_returned == 1
    assert owed.note_return()
    assert owed.note_confirm(1, multiple=False)
    assert owed.note_return()
    assert not owed.note_return()
    assert owed.note_confirm(2, multiple=False)
    assert not owed.note_confirm(2, multiple=False)


def test_nothing_that_was_not_sent_is_confirmed() -> None:
    owed = published(5)
    for tag in (6, 2**63, 2**64 - 1):
        assert not owed.note_confirm(tag, multiple=False)
        assert not owed.note_confirm(tag, multiple=True)
    assert owed.note_confirm(5, multiple=True)


def test_what_is_confirmed_does_not_come_back() -> None:
    owed = published(1_000)
    assert owed.note_confirm(999, multiple=True)
    assert owed.note_return()
    assert not owed.note_return(), "only the last one is under way"


def test_a_long_good_life_saves_nothing_up() -> None:
    owed = Owed()
    for tag in range(2, 10_000, 2):
        owed.note_published(1)
        owed.note_published(1)
        assert owed.note_confirm(tag, multiple=True)
    assert not owed.note_confirm(1, multiple=False)
    assert not owed.note_return()


@given(st.data())
def test_whatever_a_true_broker_says_is_taken(data: st.DataObject) -> None:
    """It returns before it confirms, confirms in any order, and several at once."""
    owed, tag = Owed(), 0
    under_way: dict[int, bool] = {}
    for step in data.draw(st.lists(st.sampled_from("pppacmr"), max_size=200)):
        if step == "p":
            tag += 1
            owed.note_published(1)
            under_way[tag] = False
        elif not under_way:
            continue
        elif step == "r":
            fresh = [one for one, is_returned in under_way.items() if not is_returned]
            if fresh:
                under_way[data.draw(st.sampled_from(fresh))] = True
                assert owed.note_return()
        else:
            one = data.draw(st.sampled_from(sorted(under_way)))
            multiple = step == "m"
            assert owed.note_confirm(one, multiple=multiple)
            gone = [other for other in under_way if other <= one] if multiple else [one]
            for other in gone:
                del under_way[other]
