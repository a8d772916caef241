"""What the lines of the snoops show of a password: nothing."""

from __future__ import annotations

import re

import pytest

from miros_rabbitmq.nets.masking import Mask
from miros_rabbitmq.urls import Address, amqp_url

PASSWORD = "p@ss/w0rd ü"


def test_the_password_of_each_url_is_masked() -> None:
    for tls in (False, True):
        one, other = (
            amqp_url("robot", password, Address("a"), "v", tls=tls)
            for password in (PASSWORD, "another:one")
        )
        shown = Mask()(f"{one} and {[str(other)]}")
        assert shown.count("robot:***@a:5672/v") == 2
        assert "ss" not in re.sub("amqps?", "", shown)
        assert "another" not in shown


@pytest.mark.parametrize(
    "text", ["amqp://robot:p/w@d@host/", "see amqp://robot:@host/", "AMQP://robot:pw@host"]
)
def test_a_url_that_somebody_wrote_wrongly_is_masked_as_well(text: str) -> None:
    assert re.fullmatch(r".*://robot:\*\*\*@host/?", Mask()(text))


def test_the_own_secrets_are_masked_as_words() -> None:
    mask = Mask([PASSWORD, "rabbit", "a+key="])
    assert mask(f"log in with {PASSWORD}") == "log in with ***"
    assert mask("p%40ss%2Fw0rd%20%C3%BC") == "***"
    assert mask("password: rabbit, rabbitmq, 'rabbit'") == "password: ***, rabbitmq, '***'"
    assert mask("a+key=!") == "***!"


def test_a_very_short_secret_spoils_no_other_line() -> None:
    mask = Mask(["on", ""])
    assert mask("e->on() off->on") == "e->on() off->on"
    assert mask("amqp://u:on@h/") == "amqp://u:***@h/"


def test_what_is_no_secret_stays() -> None:
    text = "[2026-11-22 15:31:05.220146] [lamp] e->TOGGLE() dark->bright http://a:b@c"
    assert Mask(["rabbit"])(text) == text
    assert "rabbit" not in repr(Mask(["rabbit"]))
