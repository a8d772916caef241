"""What the lines of the snoops show of a password: nothing."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import quote

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


@pytest.mark.parametrize("secret", ["rabbit", "a\"b\\c'd", "line\nbreak", "h\u00e4user", "p@ss/w"])
def test_a_secret_is_masked_in_each_form_that_texts_have(secret: str) -> None:
    mask = Mask([secret])
    url = str(amqp_url("robot", secret, Address("a")))
    quoted = quote(secret, safe="")
    for form in (
        repr(secret),
        ascii(secret),
        json.dumps(secret),
        repr(secret.encode()),
        f"\x1b[31m{secret}\x1b[0m",
        repr(f"\x1b[31m{url}\x1b[0m"),
        repr(f"two lines\n{secret}"),
        quote(url, safe=""),
        re.sub("%..", lambda match: match[0].lower(), quoted),
        f"\x1b[1;32m{quoted}",
    ):
        shown = mask(form)
        assert "***" in shown, form
        assert not re.search("rabbit|c.*d|break|user|ss", shown), form


def test_a_short_secret_is_masked_in_front_of_a_host_without_a_scheme_and_in_a_quoted_url() -> None:
    mask = Mask(["pw"])
    assert mask("robot:pw@host") == "robot:***@host"
    assert mask(quote("amqp://robot:pw@host/")) == "amqp%3A//robot%3A***%40host/"


def test_a_key_is_masked_without_its_padding() -> None:
    assert Mask(["gL5vY0y0p0V2="])("gL5vY0y0p0V2 gL5vY0y0p0V2=") == "*** ***"


def test_a_text_full_of_beginnings_of_urls_takes_little_time() -> None:
    """With one pass for each beginning, this took minutes."""
    began_s = time.process_time()
    Mask(["rabbit"])("@" + "amqp://a:" * 100_000)
    assert time.process_time() - began_s < 10
