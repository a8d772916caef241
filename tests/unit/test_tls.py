"""What the environment says of TLS: no mistake in it ever means connections without TLS."""

from __future__ import annotations

import gc
import os
import ssl
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import (
    RabbitScout,
    Settings,
    SimplePikaTopicConsumer,
    SimplePikaTopicPublisher,
    tls,
)
from miros_rabbitmq.exceptions import SettingsError
from miros_rabbitmq.tls import tls_from_environment
from tests.broker.certificates import make as make_certificate
from tests.helpers import scaled

NAMES = ["RABBIT_TLS_CAFILE", "RABBIT_TLS_CERTFILE", "RABBIT_TLS_KEYFILE"]


def test_without_any_variable_there_is_no_tls() -> None:
    others = {"RABBIT_USER": "", "RABBITMQ_TLS_CAFILE": "x", "RABBIT_PASSWORD": "p"}
    assert tls_from_environment(others) is None


def test_who_uses_the_same_files_uses_one_context_until_they_change(tmp_path: Path) -> None:
    one, two = make_certificate("one"), make_certificate("two")
    files = {name: tmp_path / f"{name}.pem" for name in ("one", "two", "key", "none")}
    one.write(files["one"], files["none"])
    two.write(files["two"], files["key"])
    environment = {"RABBIT_TLS_CAFILE": str(files["one"])}
    context = tls_from_environment(environment)
    assert context is not None
    assert tls_from_environment(environment) is context
    assert tls_from_environment({"RABBIT_TLS_CAFILE": str(files["two"])}) is not context
    own = {"RABBIT_TLS_CERTFILE": str(files["two"]), "RABBIT_TLS_KEYFILE": str(files["key"])}
    assert tls_from_environment({**environment, **own}) is not context
    two.write(files["one"], files["none"])
    changed = tls_from_environment(environment)
    assert changed is not None
    assert changed is not context
    assert changed.get_ca_certs() != context.get_ca_certs()
    kept = weakref.ref(changed)
    del changed
    gc.collect()
    assert kept() is None, "nobody uses it any more"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["", " ", "\n", "\t "], ids=repr)
def test_a_variable_that_is_set_but_empty_is_an_error(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set, but empty: .*unset {name}"):
        tls_from_environment({name: value})
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} is set, but empty"):
        Settings("user", "password", Fernet.generate_key())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RABBIT_TLS_CA_FILE", "RABBIT_TLS_CAFILE"),
        ("RABBIT_TLS_CACERTFILE", "RABBIT_TLS_C"),
        ("RABBIT_TLS_CERT_FILE", "RABBIT_TLS_CERTFILE"),
        ("RABBIT_TLS_KEY", "RABBIT_TLS_KEYFILE"),
        ("rabbit_tls_cafile", "RABBIT_TLS_CAFILE"),
        ("RABBIT_TLSCAFILE", "RABBIT_TLS_CAFILE"),
        ("RABBIT_TLS", None),
        ("RABBIT_TLS_VERIFY", None),
    ],
)
def test_a_misspelled_variable_is_an_error_that_names_the_ones_there_are(
    name: str, meant: str | None
) -> None:
    with pytest.raises(SettingsError, match=f"the environment has {name}, which is no setting") as (
        caught
    ):
        tls_from_environment({name: "ca.pem"})
    assert ", ".join(NAMES) in str(caught.value)
    if meant is not None:
        assert f"did you mean {meant}" in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (os.mkfifo, "it is a FIFO"),
        (Path.mkdir, "it is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: (path.touch(), path.chmod(0o666)), "everybody may write it: chmod o-w"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (lambda path: None, "No such file or directory"),
    ],
    ids=["a FIFO", "a directory", "endless", "writable for all", "a loop", "nothing"],
)
def test_a_file_that_cannot_be_used_is_an_error_at_once(
    tmp_path: Path, name: str, plant: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "file.pem"
    plant(path)
    errors: list[SettingsError] = []

    def read() -> None:
        with pytest.raises(SettingsError) as caught:
            tls_from_environment({name: str(path)})
        errors.append(caught.value)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(scaled(20))
    (error,) = errors
    assert str(error).startswith(f"{name}={path} cannot be used: ")
    assert said in str(error)


def test_a_path_that_no_system_knows_is_an_error_of_ours() -> None:
    with pytest.raises(SettingsError, match="RABBIT_TLS_CAFILE"):
        tls_from_environment({"RABBIT_TLS_CAFILE": "a\0b"})


def scout(**arguments: Any) -> RabbitScout:
    return RabbitScout("robot", "rabbit", addresses=["127.0.0.9"], **arguments)


def publisher(url: str = "amqps://robot:rabbit@127.0.0.9", **arguments: Any) -> None:
    SimplePikaTopicPublisher(url, "miros.mesh", "k", **arguments)


def consumer(url: str = "amqps://robot:rabbit@127.0.0.9", **arguments: Any) -> None:
    SimplePikaTopicConsumer(url, "miros.mesh", "k", on_message=print, **arguments)


@pytest.mark.parametrize("make", [scout, publisher, consumer])
@pytest.mark.parametrize(
    ("name", "value"),
    [("RABBIT_TLS_CAFILE", ""), ("RABBIT_TLS_CA", "/ca.pem"), ("RABBIT_TLS_CAFILE", "/dev/zero")],
)
def test_what_is_used_without_a_chart_reads_the_environment_too(
    make: Callable[[], object], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="RABBIT_TLS_CAFILE"):
        make()


def test_a_scout_uses_the_tls_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, it would send the password in clear to a broker that charts reach by TLS."""
    make_certificate("authority").write(tmp_path / "ca.pem", tmp_path / "ca.key")
    monkeypatch.setenv("RABBIT_TLS_CAFILE", str(tmp_path / "ca.pem"))
    assert repr(scout().this.url).startswith("<amqps://robot:***@")
    assert ":5671/" in repr(scout().this.url)


@pytest.mark.parametrize("make", [scout, publisher, consumer])
def test_a_context_for_servers_is_refused(make: Callable[..., object]) -> None:
    """It would verify nobody, and each connection would fail with words for programmers of C."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with pytest.raises(SettingsError, match=r"ssl\.create_default_context\(cafile="):
        make(tls=context)


@pytest.mark.parametrize(
    "name",
    ["RABBITMQ_TLS_CAFILE", "RABIT_TLS_CAFILE", "RABBIT_SSL_CAFILE", "rabbit-tls-cafile"],
)
def test_a_name_that_may_be_meant_for_ours_is_said_once(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has set it takes the connections for encrypted; or another program reads it."""
    monkeypatch.setattr(tls, "_told", set())
    for _ in range(3):
        assert tls_from_environment({name: "/etc/ca.pem", "PATH": "/bin"}) is None
    (said,) = caplog.messages
    assert f"without TLS: the environment has {name}, which is not read here" in said
    assert "RABBIT_TLS_CAFILE" in said


@pytest.mark.parametrize("name", ["RABBITMQ_CONFIG_FILE", "RABBIT_HOST", "SSL_CERT_FILE"])
def test_names_of_others_are_left_alone(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert tls_from_environment({name: "/etc/ca.pem"}) is None
    assert not caplog.messages
