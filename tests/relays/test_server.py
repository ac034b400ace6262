"""Relay URIs (RFC 7065): what is read, what is refused and why, and that nothing shows a password."""

from __future__ import annotations

import copy
import pickle
import ssl
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer

GOOD = {
    "turn:example.org": ("example.org", 3478, "udp"),
    "turns:example.org": ("example.org", 5349, "tls"),
    "turn:example.org:8000": ("example.org", 8000, "udp"),
    "turn:example.org?transport=udp": ("example.org", 3478, "udp"),
    "turn:example.org?transport=tcp": ("example.org", 3478, "tcp"),
    "turns:example.org?transport=tcp": ("example.org", 5349, "tls"),
    "turn:example.org:443?transport=TCP": ("example.org", 443, "tcp"),
    "TURNS:example.org:443": ("example.org", 443, "tls"),
    "turn:192.0.2.1:1": ("192.0.2.1", 1, "udp"),
    "turn:[2001:DB8:0::1]": ("2001:db8::1", 3478, "udp"),
    "turns:[2001:db8::1]:65535?transport=tcp": ("2001:db8::1", 65535, "tls"),
    "turn:a": ("a", 3478, "udp"),
    "turn:relay_1.example-net.org.": ("relay_1.example-net.org.", 3478, "udp"),
    "turn:xn--bcher-kva.example": ("xn--bcher-kva.example", 3478, "udp"),
}

BAD = {
    "": "start with",
    "example.org": "start with",
    "example.org:3478": "start with",
    "stun:example.org": "start with",
    "http://example.org": "start with",
    " turn:example.org": "start with",
    "turnx:example.org": "start with",
    "turn:": "no host",
    "turn:?transport=udp": "no host",
    "turn::3478": "no host",
    "turn:user:password@example.org": "user name",
    "turn:user@example.org": "user name",
    "turn://example.org": "host",
    "turn:exa mple.org": "host",
    "turn:example.org\n": "host",
    "turn:-example.org": "host",
    "turn:exa..mple": "host",
    "turn:" + "a" * 64 + ".org": "host",
    "turn:" + "a." * 127 + "org": "host",
    "turn:bücher.example": "host",
    "turn:example.org/path": "host",
    "turn:%65xample.org": "host",
    "turn:[2001:db8::1%25eth0]": "IPv6",
    "turn:[fe80::1%eth0]": "IPv6",
    "turn:[example.org]": "IPv6",
    "turn:[192.0.2.1]": "IPv6",
    "turn:[]": "IPv6",
    "turn:example.org:": "port",
    "turn:example.org:0": "port",
    "turn:example.org:65536": "port",
    "turn:example.org:-1": "port",
    "turn:example.org:+1": "port",
    "turn:example.org:１": "port",
    "turn:example.org:123456": "port",
    "turn:example.org:3478/": "port",
    "turn:2001:db8::1": "port",
    "turn:example.org?": "transport=",
    "turn:example.org?transport=": "transport=",
    "turn:example.org?transport=sctp": "transport=",
    "turn:example.org?transport=udp&x=y": "transport=",
    "turn:example.org?ttl=1": "transport=",
    "turn:example.org?transport=udp?transport=tcp": "transport=",
    "turns:example.org?transport=udp": "DTLS",
}


@pytest.mark.parametrize(("uri", "parts"), GOOD.items())
def test_good_uris(uri: str, parts: tuple[str, int, str]) -> None:
    relay = RelayServer.parse(uri)
    assert (relay.host, relay.port, relay.transport) == parts
    assert RelayServer.parse(relay.name) == relay


@pytest.mark.parametrize(("uri", "named"), BAD.items())
def test_bad_uris_name_what_is_wrong(uri: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RelayServer.parse(uri)
    assert named in refused.value.sentence
    assert "password@" not in f"{refused.value!r} {refused.value}"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for uri in (text, f"turn:{text}", f"turn:[{text}]", f"turns:example.org:{text}", f"turn:example.org?{text}"):
        try:
            relay = RelayServer.parse(uri)
        except ConfigError as refused:
            assert refused.__cause__ is None  # noqa: PT017 - either outcome is right
        else:
            assert RelayServer.parse(relay.name) == relay


def test_the_name_is_the_uri_in_full() -> None:
    assert RelayServer.parse("turn:example.org").name == "turn:example.org:3478?transport=udp"
    assert RelayServer.parse("turns:[2001:db8::1]").name == "turns:[2001:db8::1]:5349?transport=tcp"
    assert RelayServer.parse("turn:example.org?transport=tcp").name == "turn:example.org:3478?transport=tcp"


PASSWORD, USER = "canary-password", "canary-user"


def relay() -> RelayServer:
    return RelayServer.parse("turn:example.org", username=USER, password=PASSWORD)


def test_nothing_shows_the_credentials() -> None:
    for server in (relay(), RelayServer.parse("turn:example.org").with_credentials(USER, Secret(PASSWORD))):
        assert server.username == USER
        assert server.password is not None
        assert server.password.reveal() == PASSWORD
        shown = f"{server!r} {server} {server.name} {server.password!r} {server.password}"
        assert PASSWORD not in shown
        assert USER not in shown


@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy, asdict])
def test_a_relay_with_a_password_is_not_pickled_or_copied_into_plain_data(how: object) -> None:
    assert callable(how)
    with pytest.raises(TypeError) as refused:
        how(relay())
    assert PASSWORD not in str(refused.value)


def test_a_relay_without_a_password_is() -> None:
    plain = RelayServer.parse("turn:example.org")
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_credentials_belong_to_the_relay_and_its_tls_context_does_not() -> None:
    assert relay() != RelayServer.parse("turn:example.org")
    assert relay() == relay()
    assert hash(relay()) == hash(relay())
    assert relay() != replace(relay(), password=Secret("another"))
    assert relay() == replace(relay(), ssl_context=ssl.create_default_context())


@pytest.mark.parametrize("field", ["username", "password"])
@pytest.mark.parametrize("value", ["\ud800", "a\ud800"], ids=["surrogate", "surrogate inside"])
def test_credentials_that_cannot_be_written_in_utf8_are_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError):
        RelayServer.parse("turn:example.org", **{"username": USER, "password": PASSWORD, field: value})  # type: ignore[arg-type]


def test_a_user_name_longer_than_stun_carries_is_refused() -> None:
    assert RelayServer.parse("turn:example.org", username="u" * 508, password=PASSWORD)
    with pytest.raises(ConfigError) as refused:
        RelayServer.parse("turn:example.org", username="u" * 509, password=PASSWORD)
    assert "uuu" not in str(refused.value)
    with pytest.raises(ConfigError):
        relay().with_credentials("ü" * 255, PASSWORD)


def test_labels_are_no_part_of_what_a_relay_is() -> None:
    labelled = RelayServer.parse("turn:example.org", region="eu-west", operator="Örg Ltd")
    assert (labelled.region, labelled.operator) == ("eu-west", "Örg Ltd")
    assert labelled == RelayServer.parse("turn:example.org")
    assert labelled.with_credentials(USER, PASSWORD).region == "eu-west"


@pytest.mark.parametrize("label", ["", "x" * 65, "two\nlines", "\x1b[31m"], ids=["empty", "long", "newline", "escape"])
@pytest.mark.parametrize("field", ["region", "operator"])
def test_a_label_that_cannot_be_shown_is_refused(field: str, label: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RelayServer.parse("turn:example.org", **{field: label})  # type: ignore[arg-type]
    assert field in refused.value.sentence


def test_a_pinned_address_with_the_name_in_its_certificate() -> None:
    pinned = RelayServer.parse("turns:192.0.2.1", tls_name="relay.example.org")
    assert (pinned.host, pinned.tls_name) == ("192.0.2.1", "relay.example.org")
    with pytest.raises(ConfigError, match="tls_name"):
        RelayServer.parse("turns:192.0.2.1", tls_name="no name")
