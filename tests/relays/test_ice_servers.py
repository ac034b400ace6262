"""What endpoints answer: the shapes in use are read, and whatever else there may be is refused without being shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.redact import Secret
from relaycall.relays.ice_servers import MAX_RELAYS, AnswerRefused, decode_ice_servers, expiry_of

STUN = {"urls": "stun:relay.example.org:3478"}
TURN = {"urls": "turn:relay.example.org:3478?transport=udp", "username": "user", "credential": "canary"}
MANY = {
    "urls": ["turn:a.example.org", "stun:a.example.org", "turns:a.example.org:443?transport=tcp"],
    "username": "user",
    "credential": "canary",
    "credentialType": "password",
}

CLOUDFLARE = {"iceServers": [{"urls": ["stun:stun.cloudflare.com:3478", "stun:stun.cloudflare.com:53"]}, MANY]}
CLOUDFLARE_BEFORE = {"iceServers": MANY}
TWILIO = {
    "ttl": "86400",
    "username": "user",
    "password": "canary",
    "account_sid": "AC0",
    "ice_servers": [{"url": "stun:x", "urls": "stun:x"}, {"url": TURN["urls"], **TURN}],
    "date_created": "Fri, 01 May 2020 01:42:57 +0000",
}
METERED = [STUN, TURN, {**TURN, "urls": "turn:relay.example.org:80?transport=tcp"}]


@pytest.mark.parametrize(
    ("answer", "names", "ttl"),
    [
        (CLOUDFLARE, ["turn:a.example.org:3478?transport=udp", "turns:a.example.org:443?transport=tcp"], None),
        (CLOUDFLARE_BEFORE, ["turn:a.example.org:3478?transport=udp", "turns:a.example.org:443?transport=tcp"], None),
        (TWILIO, ["turn:relay.example.org:3478?transport=udp"], 86400.0),
        (METERED, ["turn:relay.example.org:3478?transport=udp", "turn:relay.example.org:80?transport=tcp"], None),
        ({"iceServers": [TURN], "ttl": 60}, ["turn:relay.example.org:3478?transport=udp"], 60.0),
        ({"iceServers": [TURN], "ttl": 60.5}, ["turn:relay.example.org:3478?transport=udp"], 60.5),
        (
            {"iceServers": {**TURN, "urls": "TURN:relay.example.org"}, "x": [1, {}]},
            ["turn:relay.example.org:3478?transport=udp"],
            None,
        ),
    ],
)
def test_the_shapes_in_use(answer: object, names: list[str], ttl: float | None) -> None:
    relays, holds = decode_ice_servers(json.dumps(answer).encode())
    assert [relay.name for relay in relays] == names
    assert {(relay.username, relay.password) for relay in relays} == {("user", Secret("canary"))}
    assert holds == ttl


def changed(**entry: Any) -> dict[str, Any]:
    return {"iceServers": [{key: value for key, value in {**TURN, **entry}.items() if value is not ...}]}


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (None, "not JSON"),
        (5, "not JSON"),
        ("turn:x", "not JSON"),
        ({"iceServers": "turn:x"}, "not JSON"),
        ({"iceServers": [[TURN]]}, "not JSON"),
        ({"iceServers": [None]}, "not JSON"),
        ({"ice_servers": TURN}, "not JSON"),
        ({}, "no TURN server"),
        ([], "no TURN server"),
        ([STUN], "no TURN server"),
        ({"iceServers": []}, "no TURN server"),
        ({"error": "canary"}, "no TURN server"),
        (changed(urls=[]), "no TURN server"),
        (changed(urls=...), "not JSON"),
        (changed(urls=5), "not JSON"),
        (changed(urls=[5]), "not JSON"),
        (changed(urls=None), "not JSON"),
        (changed(username=5), "not JSON"),
        (changed(credential=["canary"]), "not JSON"),
        (changed(username=...), "no user name or no credential"),
        (changed(credential=...), "no user name or no credential"),
        (changed(username=""), "no user name or no credential"),
        (changed(credential=""), "no user name or no credential"),
        (changed(username="ü" * 257), "user name is too long"),
        (changed(credentialType="oauth"), "another kind of credential"),
        (changed(urls="http://canary.example.org"), "turn: or turns:"),
        (changed(urls="turn:user:canary@relay.example.org"), "no user name or password"),
        (changed(urls="turn:relay.example.org:canary"), "port"),
        (changed(urls=""), "turn: or turns:"),
        ({"iceServers": [TURN] * (MAX_RELAYS + 1)}, "more than 32"),
        ({"iceServers": [TURN], "ttl": "soon"}, "ttl"),
        ({"iceServers": [TURN], "ttl": "-5"}, "ttl"),
        ({"iceServers": [TURN], "ttl": -5}, "ttl"),
        ({"iceServers": [TURN], "ttl": 0}, "ttl"),
        ({"iceServers": [TURN], "ttl": True}, "not JSON"),
    ],
    ids=str,
)
def test_what_breaks_a_rule(answer: object, rule: str) -> None:
    with pytest.raises(AnswerRefused, match=rule) as caught:
        decode_ice_servers(json.dumps(answer).encode())
    assert "canary" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"canary",
        b"\xff\xfe",
        b'{"iceServers": [{"urls": "\xff"}]}',
        b'{"iceServers": [{"urls": "turn:x", "username": "\\ud800", "credential": "canary"}]}',
        b'{"x": ' + b"[" * 60000,
        b'{"ttl": NaN}',
        b'{"ttl": 1e999}',
        b"<html>canary</html>",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(AnswerRefused, match="not JSON") as caught:
        decode_ice_servers(body)
    assert "canary" not in f"{caught.value!r} {caught.value}"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["turn:a", "stun:a", "user"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["iceServers", "ice_servers", "urls", "username", "credential", "ttl"]), inner
        )
    ),
    max_leaves=20,
)


@given(ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_anything_is_read_or_refused(body: bytes) -> None:
    try:
        relays, ttl = decode_ice_servers(body)
    except AnswerRefused:
        return
    assert relays
    assert ttl is None or ttl >= 1


@pytest.mark.parametrize(
    ("username", "expiry"),
    [
        ("1800000000:alice", 1_800_000_000),
        ("1800000000", 1_800_000_000),
        ("1800000000:\n:x", 1_800_000_000),
        ("alice:1800000000", None),
        ("18000000000000:alice", None),
        ("42:alice", None),
        ("007", None),
        ("", None),
        ("١٨٠٠٠٠٠٠٠٠", None),
        ("1800000000alice", None),
    ],
)
def test_the_expiry_in_a_user_name(username: str, expiry: int | None) -> None:
    assert expiry_of(username) == expiry
