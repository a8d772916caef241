"""The settings of a node: defaults, spellings, and values that cannot work."""

from __future__ import annotations

import ast
import base64
import dataclasses
import inspect
import math
import pprint
import re
import ssl
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import MirosNets, NetworkedActiveObject, NetworkedFactory
from miros_rabbitmq.exceptions import MalformedKey, SettingsError
from miros_rabbitmq.limits import Limits
from miros_rabbitmq.nets.settings import (
    DEFAULT_ROUTING_KEY,
    OlderSpellings,
    Settings,
    documented,
    settings_from,
    taken,
    without_older_spellings,
)
from miros_rabbitmq.urls import Address, check_short_text

KEY = base64.urlsafe_b64encode(bytes(range(32)))
OTHER_KEY = base64.urlsafe_b64encode(bytes(32))
THIRD_KEY = base64.urlsafe_b64encode(b"\xff" * 32)
PASSWORD = "canary-password"

OLD_SPELLINGS = {
    "mesh_encyption_key": "mesh_encryption_key",
    "trace_snoop_encryption_key": "snoop_trace_encryption_key",
    "spy_snoop_encryption_key": "snoop_spy_encryption_key",
}


def made(**extras: Any) -> Settings:
    return Settings("user", PASSWORD, extras.pop("mesh_encryption_key", KEY), **extras)


def from_constructor(extras: dict[str, Any], **given: Any) -> Settings:
    arguments = {"rabbit_user": "user", "rabbit_password": PASSWORD, "mesh_encryption_key": KEY}
    return settings_from({**arguments, **given}, extras)


def nothing(*_: object) -> None:
    """A callback."""


# Defaults.


def test_three_arguments_are_enough_and_the_others_have_these_defaults() -> None:
    settings = made()
    fields = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    assert fields == {
        "rabbit_user": "user",
        "rabbit_password": PASSWORD,
        "mesh_encryption_key": KEY,
        "tx_routing_key": None,
        "rx_routing_key": None,
        "snoop_spy_encryption_key": None,
        "snoop_trace_encryption_key": None,
        "rabbit_host": None,
        "rabbit_port": 5672,
        "rabbit_vhost": "/",
        "addresses": None,
        "interface": None,
        "serializer": None,
        "deserializer": None,
        "allowed_classes": (),
        "on_mesh_rx": None,
        "on_trace_rx": None,
        "on_spy_rx": None,
        "on_peers_changed": None,
        "on_delivery_problem": None,
        "tls": None,
        "durable": True,
        "start_timeout": 5.0,
        "transmit_timeout": 10.0,
        "on_full": "drop",
        "rescan_interval": 60.0,
        "forget_after": 600.0,
        "time_out_in_minutes": 30.0,
        "accept_unknown_peers": True,
        "max_age_s": None,
        "on_error": "stop",
        "limits": Limits(),
        "tx_key": DEFAULT_ROUTING_KEY,
        "rx_key": DEFAULT_ROUTING_KEY,
        "mesh_keys": (KEY,),
        "trace_keys": (KEY,),
        "spy_keys": (KEY,),
    }


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().rabbit_user = "other"  # type: ignore[misc]


def test_a_list_that_was_given_can_be_changed_without_changing_the_settings() -> None:
    addresses, classes = ["127.0.0.2"], [dict]
    settings = made(addresses=addresses, allowed_classes=classes)
    addresses.append("127.0.0.3")
    classes.clear()
    assert settings.addresses == ("127.0.0.2",)
    assert settings.allowed_classes == (dict,)


def test_the_older_spellings_are_three() -> None:
    assert OlderSpellings.__optional_keys__ == set(OLD_SPELLINGS)
    assert not OlderSpellings.__required_keys__


def written(constructor: Callable[..., Any]) -> list[tuple[str, str, bool]]:
    """What an editor reads in the source: each argument, its type, and whether it has a default."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(constructor))).body
    assert isinstance(tree, ast.FunctionDef)
    by_position, by_keyword = tree.args.args, tree.args.kwonlyargs
    required = len(by_position) - len(tree.args.defaults)
    return [
        (each.arg, ast.unparse(each.annotation) if each.annotation else "", has_default)
        for each, has_default in [
            *((each, index >= required) for index, each in enumerate(by_position)),
            *zip(by_keyword, [each is not None for each in tree.args.kw_defaults], strict=True),
        ]
    ]


@pytest.mark.parametrize(
    ("cls", "own"),
    [
        (NetworkedActiveObject, {"self", "name"}),
        (NetworkedFactory, {"self", "name"}),
        (MirosNets, {"self", "miros_object", "chart_side"}),
    ],
)
def test_the_source_of_each_constructor_spells_out_every_setting(cls: Any, own: set[str]) -> None:
    """Editors complete what stands in the source, whatever the signature is at run time."""
    found = written(cls.__init__)
    expected = [
        # An older spelling of the key of the mesh may be given in its place.
        (each.name, f"{each.type} | None", True)
        if each.name == "mesh_encryption_key"
        else (each.name, each.type, each.default is not dataclasses.MISSING)
        for each in dataclasses.fields(Settings)
        if each.init
    ]
    assert [each for each in found if each[0] not in own] == expected
    for each in dataclasses.fields(Settings):
        if each.kw_only:
            default = cls.__init__.__kwdefaults__[each.name]
            assert (type(default), default) == (type(each.default), each.default)


def test_a_constructor_that_forgets_a_setting_fails_at_its_first_use() -> None:
    local = {each.name: 1 for each in dataclasses.fields(Settings) if each.init}
    assert taken({"self": 2, **local}) == local
    del local["limits"]
    with pytest.raises(KeyError, match="limits"):
        taken(local)


@pytest.mark.parametrize("name", ["start_timeout", "allowed_classes", "limits", "durable"])
def test_none_is_refused_where_it_has_no_meaning(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        from_constructor({}, **{name: None})


class Documented:
    """A class that takes settings.

    Args:
        first: one of its own.
        ...: see `Settings`.
        last: another one of its own.

    Raises:
        TypeError: a reason of its own.
    """

    @without_older_spellings
    def __init__(self, first: int, rabbit_user: str, *, last: int = 3, **older: Any) -> None:
        self.given = first, rabbit_user, last, older


def test_older_spellings_are_accepted_but_not_shown() -> None:
    assert list(inspect.signature(Documented).parameters) == ["first", "rabbit_user", "last"]
    assert Documented(1, "user", mesh_encyption_key=KEY).given == (
        *(1, "user", 3),
        {"mesh_encyption_key": KEY},
    )


def test_a_class_that_takes_settings_says_what_each_means_between_those_of_its_own() -> None:
    before = Documented.__doc__
    text = documented(Documented).__doc__ or ""
    Documented.__doc__ = before
    arguments = text.partition("Args:\n")[2].partition("\n\n")[0]
    names = re.findall(r"^    (\w+): ", arguments, re.MULTILINE)
    taken = [item.name for item in dataclasses.fields(Settings) if item.init]
    assert names == ["first", *taken, "last"]
    assert "Default: ``5.0``." in arguments
    assert "Default: ``Limits()``." in arguments
    assert text.endswith("Raises:\n    TypeError: a reason of its own.")


def test_a_class_without_docstrings_stays_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Documented, "__doc__", None)
    assert documented(Documented).__doc__ is None


def test_the_arguments_by_position_are_in_the_order_of_the_contract() -> None:
    by_position = [
        item.name for item in dataclasses.fields(Settings) if item.init and not item.kw_only
    ]
    assert by_position == [
        "rabbit_user",
        "rabbit_password",
        "mesh_encryption_key",
        "tx_routing_key",
        "rx_routing_key",
        "snoop_spy_encryption_key",
        "snoop_trace_encryption_key",
    ]


# Spellings.


@pytest.mark.parametrize(("old", "new"), OLD_SPELLINGS.items())
def test_an_old_spelling_means_the_new(old: str, new: str) -> None:
    settings = from_constructor({old: OTHER_KEY}, **{new: None})
    assert getattr(settings, new) == OTHER_KEY


@pytest.mark.parametrize(("old", "new"), OLD_SPELLINGS.items())
def test_a_value_given_in_both_spellings_is_a_type_error(old: str, new: str) -> None:
    for value in (KEY, OTHER_KEY):
        with pytest.raises(TypeError, match=f"{new} was given twice, as {new} and as {old}$"):
            from_constructor({old: value}, **{new: KEY})
        with pytest.raises(TypeError, match=f"{new} was given twice, as {old} and as {new}$"):
            from_constructor({old: value, new: KEY}, **{new: None})


def test_an_unknown_keyword_is_a_type_error_that_lists_the_known() -> None:
    with pytest.raises(TypeError, match=r"rabbit_prot= \(did you mean rabbit_port=\?\)") as caught:
        from_constructor({"rabbit_prot": 1})
    assert "tx_key" not in str(caught.value)


@pytest.mark.parametrize("derived", ["tx_key", "rx_key", "mesh_keys", "trace_keys", "spy_keys"])
def test_what_is_derived_cannot_be_given(derived: str) -> None:
    with pytest.raises(TypeError, match=f"unknown keyword {derived}="):
        from_constructor({derived: "x"})


@pytest.mark.parametrize("name", ["rabbit_user", "rabbit_password", "mesh_encryption_key"])
def test_a_missing_argument_is_a_type_error_that_names_it(name: str) -> None:
    with pytest.raises(TypeError, match=f"the argument {name} is missing"):
        from_constructor({}, **{name: None})


# Keys.


def test_the_snoops_have_keys_of_their_own_if_they_are_given() -> None:
    settings = made(snoop_trace_encryption_key=OTHER_KEY, snoop_spy_encryption_key=THIRD_KEY)
    assert settings.mesh_keys == (KEY,)
    assert settings.trace_keys == (OTHER_KEY,)
    assert settings.spy_keys == (THIRD_KEY,)


def test_the_snoops_rotate_with_the_mesh_if_they_have_no_keys() -> None:
    settings = made(mesh_encryption_key=[OTHER_KEY, KEY])
    assert settings.mesh_keys == settings.trace_keys == settings.spy_keys == (OTHER_KEY, KEY)


@pytest.mark.parametrize("keys", [KEY, KEY.decode(), [KEY], (KEY.decode(),)])
def test_a_key_may_be_bytes_or_text_alone_or_in_a_list(keys: Any) -> None:
    assert made(mesh_encryption_key=keys).mesh_keys == (KEY,)


BAD_KEYS: dict[str, Any] = {
    "empty": b"",
    "short": b"canary-key-that-is-too-short",
    "long": base64.urlsafe_b64encode(b"canary-key-" * 3),
    "a password": "canary-key, a password",
    "not ascii": "canary-key-ä" * 4,
    "standard base64 of 31 bytes": base64.b64encode(b"canary-key-" * 2 + b"123456789"),
    "number": 7,
    "list with a bad one": [KEY, b"canary-key"],
    "list of lists": [[KEY]],
    "set": {KEY},
    "mapping": {"key": KEY},
    "fernet": Fernet(KEY),
}


@pytest.mark.parametrize(
    "argument",
    ["mesh_encryption_key", "snoop_trace_encryption_key", "snoop_spy_encryption_key"],
)
@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_malformed_key_is_refused_with_the_argument_and_the_remedy_and_without_the_key(
    argument: str, bad: Any
) -> None:
    with pytest.raises(MalformedKey) as caught:
        made(**{argument: bad})
    shown = "".join(traceback.format_exception(caught.value))
    assert f"{argument} is not a Fernet key" in shown
    assert "Fernet.generate_key()" in shown
    assert "canary-key" not in str(caught.value)
    assert KEY.decode() not in shown


def test_an_empty_list_of_keys_is_refused() -> None:
    nothing_given: list[Any] = [[], ()]
    for keys in nothing_given:
        with pytest.raises(MalformedKey, match="snoop_spy_encryption_key is an empty list"):
            made(snoop_spy_encryption_key=keys)


# Routing keys.


@pytest.mark.parametrize(
    ("tx", "rx", "tx_key", "rx_key"),
    [
        (None, None, DEFAULT_ROUTING_KEY, DEFAULT_ROUTING_KEY),
        ("heya.man", None, "heya.man", "heya.man"),
        ("heya.man", "#.man", "heya.man", "#.man"),
        (None, "#", DEFAULT_ROUTING_KEY, "#"),
    ],
)
def test_the_routing_keys_in_force(
    tx: str | None, rx: str | None, tx_key: str, rx_key: str
) -> None:
    settings = made(tx_routing_key=tx, rx_routing_key=rx)
    assert (settings.tx_key, settings.rx_key) == (tx_key, rx_key)


@pytest.mark.parametrize("tx", ["#", "*", "a.#", "a.*.b"])
def test_a_wildcard_in_what_is_transmitted_is_refused(tx: str) -> None:
    with pytest.raises(SettingsError, match=r"tx_routing_key .* wildcard.*rx_routing_key"):
        made(tx_routing_key=tx, rx_routing_key="a")


def test_a_star_inside_a_word_is_no_wildcard() -> None:
    assert made(tx_routing_key="a*.b#").tx_key == "a*.b#"


@pytest.mark.parametrize("name", ["tx_routing_key", "rx_routing_key"])
def test_a_routing_key_has_at_most_255_bytes(name: str) -> None:
    assert made(**{name: "k" * 255})
    for long in ("k" * 256, "ä" * 128):
        with pytest.raises(SettingsError, match=f"{name} has more than the 255 bytes"):
            made(**{name: long})


@pytest.mark.parametrize("name", ["tx_routing_key", "rx_routing_key"])
@pytest.mark.parametrize("bad", ["", b"bytes", 7, ["a"]])
def test_a_routing_key_is_a_text(name: str, bad: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must (be a|not be an empty) text"):
        made(**{name: bad})


# Places.


@pytest.mark.parametrize("name", ["rabbit_user", "rabbit_password", "rabbit_vhost"])
@pytest.mark.parametrize("bad", ["", None, b"canary-bytes", 7])
def test_user_password_and_vhost_are_texts(name: str, bad: Any) -> None:
    arguments: dict[str, Any] = {
        "rabbit_user": "user",
        "rabbit_password": "password",
        "mesh_encryption_key": KEY,
        name: bad,
    }
    with pytest.raises(SettingsError, match=f"{name} must (be a|not be an empty) text") as caught:
        Settings(**arguments)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["rabbit_host", "interface"])
@pytest.mark.parametrize("bad", ["", 7, b"eth0"])
def test_host_and_interface_are_texts_or_none(name: str, bad: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must (be a|not be an empty) text"):
        made(**{name: bad})


@pytest.mark.parametrize("port", [0, -1, 65536, "5672", 5672.0, True])
def test_a_port_is_a_number_of_1_to_65535(port: Any) -> None:
    with pytest.raises(SettingsError, match="rabbit_port must be a number of 1 to 65535"):
        made(rabbit_port=port)


def test_addresses_are_hosts_with_or_without_a_port() -> None:
    given = ["127.0.0.2", "robot.local:5673"]
    assert made(addresses=given).addresses == tuple(given)
    assert made(addresses=[]).addresses == ()


def test_one_string_of_addresses_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match=r"put even one into \[ \]"):
        made(addresses="127.0.0.2")


@pytest.mark.parametrize("bad", ["", "host:", "host:99999", "amqp://host", "a b", 7, None])
def test_a_bad_address_is_refused_at_once(bad: Any) -> None:
    with pytest.raises(SettingsError, match="a broker address is 'host' or 'host:port'"):
        made(addresses=["127.0.0.2", bad])


def test_a_bad_own_host_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="a broker address is"):
        made(rabbit_host="host:port")


def test_an_address_that_is_a_url_is_refused_without_its_password() -> None:
    for where in ({"addresses": [f"amqp://u:{PASSWORD}@h"]}, {"rabbit_host": f"u:{PASSWORD}@h"}):
        with pytest.raises(SettingsError, match="a broker address is") as caught:
            made(**where)
        assert PASSWORD not in str(caught.value)


def test_the_url_of_a_broker_has_user_password_and_vhost() -> None:
    settings = Settings("me", "p/w", KEY, rabbit_vhost="/crossing")
    assert str(settings.url(Address("robot", 5673))) == "amqp://me:p%2Fw@robot:5673/%2Fcrossing"


def test_with_tls_the_url_is_of_amqps() -> None:
    context = ssl.create_default_context()
    assert str(made(tls=context).url(Address("robot", 5671))).startswith("amqps://")


# Functions, times, classes.


@pytest.mark.parametrize(
    "half", [{"serializer": nothing}, {"deserializer": nothing}], ids=["one", "other"]
)
def test_a_serializer_and_a_deserializer_come_together(half: dict[str, Callable[..., Any]]) -> None:
    with pytest.raises(SettingsError, match="both a serializer and a deserializer"):
        made(**half)
    assert made(serializer=nothing, deserializer=nothing)


@pytest.mark.parametrize("name", ["on_mesh_rx", "on_trace_rx", "on_spy_rx"])
def test_a_callback_can_be_called(name: str) -> None:
    assert getattr(made(**{name: nothing}), name) is nothing
    with pytest.raises(SettingsError, match=f"{name} must be a function, not 'print'"):
        made(**{name: "print"})


def test_a_serializer_can_be_called() -> None:
    with pytest.raises(SettingsError, match="serializer must be a function"):
        made(serializer="json", deserializer=nothing)


@pytest.mark.parametrize("name", ["start_timeout", "transmit_timeout", "rescan_interval"])
@pytest.mark.parametrize("bad", [-1, -0.1, math.nan, "5", None, True])
def test_a_time_is_a_number_of_seconds(name: str, bad: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be a number of seconds, 0 or more"):
        made(**{name: bad})


@pytest.mark.parametrize("name", ["start_timeout", "transmit_timeout", "rescan_interval"])
@pytest.mark.parametrize("good", [0, 0.5, 3600])
def test_no_time_is_a_time(name: str, good: float) -> None:
    assert getattr(made(**{name: good}), name) == good


def test_the_allowed_classes_are_classes() -> None:
    assert made(allowed_classes=[Address]).allowed_classes == (Address,)
    with pytest.raises(SettingsError, match="allowed_classes must be a list of classes"):
        made(allowed_classes=[Address("host")])


@pytest.mark.parametrize("name", ["allowed_classes", "addresses"])
@pytest.mark.parametrize("single", [Address, 5, b"127.0.0.2", "127.0.0.2"], ids=str)
def test_a_single_value_in_place_of_a_list_is_refused(name: str, single: Any) -> None:
    with pytest.raises(
        SettingsError, match=rf"{name} must be a list of .* put even one into \[ \]"
    ):
        made(**{name: single})


def test_what_can_be_iterated_over_only_once_is_a_list_too() -> None:
    settings = made(addresses=iter(["127.0.0.2"]), allowed_classes=iter([Address]))
    assert settings.addresses == ("127.0.0.2",)
    assert settings.allowed_classes == (Address,)


@pytest.mark.parametrize("bad", [True, "cert.pem", {}])
def test_tls_is_a_context(bad: Any) -> None:
    with pytest.raises(SettingsError, match=r"tls must be an ssl\.SSLContext"):
        made(tls=bad)


def test_the_port_of_brokers_is_the_usual_one_with_or_without_tls() -> None:
    context = ssl.create_default_context()
    assert made().rabbit_port == 5672
    assert made(tls=context).rabbit_port == 5671
    assert made(tls=context, rabbit_port=5672).rabbit_port == 5672


@pytest.mark.parametrize(("name", "bad"), [("limits", {}), ("limits", None)])
def test_an_object_of_the_wrong_kind_is_refused_at_construction(name: str, bad: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        made(**{name: bad})


# Limits.


def limit_names() -> list[str]:
    return [item.name for item in dataclasses.fields(Limits)]


@pytest.mark.parametrize("bad", [0, -1, math.nan, "5", None, True])
def test_a_limit_is_a_number_above_0(bad: Any) -> None:
    for name in limit_names():
        with pytest.raises(
            SettingsError, match=rf"limits: {name} must be a (whole )?number above 0"
        ):
            Limits(**{name: bad})


@pytest.mark.parametrize(
    "contradiction",
    [
        {"tempo_fast_s": 1.0},
        {"reconnect_min_s": 6.0},
        {"fifo_remote_events": 20_000},
    ],
    ids=repr,
)
def test_two_limits_that_contradict_each_other_are_refused(contradiction: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="limits: "):
        Limits(**contradiction)


def test_equal_limits_do_not_contradict_each_other() -> None:
    assert Limits(tempo_fast_s=0.005, reconnect_min_s=5.0, fifo_remote_events=10_000)


@pytest.mark.parametrize("bad", [0.5, math.inf])
def test_a_limit_that_counts_is_a_whole_number(bad: Any) -> None:
    for name in limit_names():
        if not name.endswith("_s"):
            with pytest.raises(SettingsError, match=name):
                Limits(**{name: bad})


# Secrets.


def test_no_repr_shows_a_password_or_a_key() -> None:
    settings = made(
        mesh_encryption_key=[KEY, OTHER_KEY],
        snoop_trace_encryption_key=THIRD_KEY.decode(),
        snoop_spy_encryption_key=OTHER_KEY,
    )
    shown = repr(settings) + str(settings) + repr([settings]) + f"{settings!r:s}"
    shown += repr(settings.url(Address("host")))
    assert "rabbit_user='user'" in shown
    for secret in (PASSWORD, KEY.decode(), OTHER_KEY.decode(), THIRD_KEY.decode()):
        assert secret not in shown


def test_no_refusal_shows_a_password_or_a_key() -> None:
    bad: dict[str, dict[str, Any]] = {
        "rabbit_port": {"rabbit_port": 0},
        "addresses": {"addresses": "x"},
        "wildcard": {"tx_routing_key": "#"},
        "start_timeout": {"start_timeout": -1},
        "both a serializer": {"serializer": nothing},
        "not a Fernet key": {"snoop_spy_encryption_key": "short"},
    }
    for refusal, extras in bad.items():
        with pytest.raises(SettingsError, match=refusal) as caught:
            made(**extras)
        shown = "".join(traceback.format_exception(caught.value))
        assert PASSWORD not in shown
        assert KEY.decode() not in shown


@pytest.mark.parametrize("bad", ["", None, 5, b"key", "k" * 256, "\u00e9" * 128, "\ud800"])
def test_a_short_text_of_amqp_is_checked_in_bytes(bad: Any) -> None:
    check_short_text("queue", "\u00e9" * 127 + "k")
    with pytest.raises(SettingsError, match="queue"):
        check_short_text("queue", bad)


def test_the_repr_of_limits_shows_what_was_changed() -> None:
    assert repr(Limits()) == "Limits()"
    assert repr(Limits(heartbeat_s=30, batch_events=7)) == "Limits(heartbeat_s=30, batch_events=7)"


@pytest.mark.parametrize(
    "name",
    [
        "rabbit_user",
        "rabbit_password",
        "rabbit_vhost",
        "rabbit_host",
        "tx_routing_key",
        "rx_routing_key",
        "interface",
        "addresses",
        "mesh_encryption_key",
    ],
)
@pytest.mark.parametrize("text", ["cana\udcffry", "cana\0ry"])
def test_a_text_that_amqp_cannot_carry_is_refused(name: str, text: str) -> None:
    given = {"rabbit_user": "u", "rabbit_password": "p", "mesh_encryption_key": KEY}
    with pytest.raises(SettingsError) as caught:
        Settings(**{**given, name: [text] if name == "addresses" else text})  # type: ignore[arg-type]
    if name not in ("addresses", "mesh_encryption_key"):
        assert name in str(caught.value)
        assert "cana" not in str(caught.value)


# Empty values, as a variable yields that is not set: none silently means something weaker.

EMPTY: list[Any] = ["", " ", "\t\n", b"", 0, False, [], (), {}, None]

MEANS_SOMETHING: dict[str, list[Any]] = {
    # `None` is what is documented as the default.
    "tx_routing_key": [None],
    "rx_routing_key": [None],
    "snoop_spy_encryption_key": [None],
    "snoop_trace_encryption_key": [None],
    "rabbit_host": [None],
    "rabbit_port": [None],
    "addresses": [None, [], (), {}],  # no host is named, and the LAN is not searched
    "interface": [None],
    "serializer": [None],
    "deserializer": [None],
    "allowed_classes": [[], (), {}],  # no class
    "on_mesh_rx": [None],
    "on_trace_rx": [None],
    "on_spy_rx": [None],
    "on_peers_changed": [None],
    "on_delivery_problem": [None],
    "tls": [None],
    "max_age_s": [None],
    "durable": [False],
    "accept_unknown_peers": [False],
    # 0 is a time.
    "start_timeout": [0],
    "transmit_timeout": [0],
    "rescan_interval": [0],
    "forget_after": [0],
    "time_out_in_minutes": [0],
}


def _is_meant(name: str, value: Any) -> bool:
    return any(type(value) is type(one) and value == one for one in MEANS_SOMETHING.get(name, []))


@pytest.mark.parametrize("value", EMPTY, ids=repr)
@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(Settings) if each.init])
def test_an_empty_value_is_refused_unless_it_means_something(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {
        "rabbit_user": "user",
        "rabbit_password": PASSWORD,
        "mesh_encryption_key": KEY,
        name: value,
    }
    if _is_meant(name, value):
        assert Settings(**arguments)
        return
    with pytest.raises((SettingsError, MalformedKey)) as caught:
        Settings(**arguments)
    assert name in str(caught.value) or name.removeprefix("de") in str(caught.value)


@pytest.mark.parametrize("value", ["no", "false", "0", 1, "True"])
@pytest.mark.parametrize("name", ["durable", "accept_unknown_peers"])
def test_a_text_is_not_taken_for_true(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be True or False, not {value!r}"):
        made(**{name: value})


@pytest.mark.parametrize("bad", [[""], [" "], ["\n"], ["127.0.0.2", ""], "", " ", [b""], [None]])
def test_an_empty_address_among_others_is_refused(bad: Any) -> None:
    with pytest.raises(SettingsError, match=r"addresses|a broker address"):
        made(addresses=bad)


@pytest.mark.parametrize("form", [str, bytes, list, tuple])
def test_whoever_prints_all_attributes_sees_no_secret(form: type) -> None:
    keys = [Fernet.generate_key().decode() for _ in range(3)]
    given: list[Any] = [
        key if form is str else key.encode() if form is bytes else form([key]) for key in keys
    ]
    settings = Settings(
        "robot",
        "Canary/pa55",
        given[0],
        snoop_spy_encryption_key=given[1],
        snoop_trace_encryption_key=given[2],
    )
    shown = pprint.pformat(vars(settings)) + str(vars(settings)) + str(dataclasses.asdict(settings))
    for secret in ("Canary", "pa55", *keys):
        assert secret not in shown
    assert settings.rabbit_password == "Canary/pa55"
    assert settings.mesh_encryption_key == given[0]
    assert settings.spy_keys == (keys[1].encode(),)


@pytest.mark.parametrize("name", ["tx_routing_key", "rx_routing_key"])
def test_an_encryption_key_in_the_place_of_a_routing_key_is_refused(name: str) -> None:
    """It would travel in clear, and stand in the log."""
    key = Fernet.generate_key().decode()
    wrong: dict[str, Any] = {name: key}
    with pytest.raises(SettingsError, match="looks like an encryption key") as caught:
        Settings("robot", "rabbit", Fernet.generate_key(), **wrong)
    assert key not in str(caught.value)
