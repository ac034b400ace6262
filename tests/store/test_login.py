"""A user name and password under one name."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.redact import Secret
from relaycall.store.login import StoredLogin, decode_login, encode_login


@given(st.text(), st.text())
def test_a_login_comes_back(username: str, password: str) -> None:
    login = StoredLogin(username, Secret(password))
    assert decode_login(encode_login(login)) == login


@given(st.text() | st.sampled_from(['{"a": 1}', "[]", "{", '{"username": 1, "password": "x"}', '{"password": "x"}']))
def test_a_secret_alone_is_kept_as_it_is(secret: str) -> None:
    assert encode_login(StoredLogin(None, Secret(secret))) == Secret(secret)
    assert decode_login(Secret(secret)) == StoredLogin(None, Secret(secret))


def test_what_is_nested_too_deeply_is_a_secret_alone() -> None:
    assert decode_login(Secret("[" * 100_000)).username is None


def test_it_is_not_shown() -> None:
    login = StoredLogin("user-canary", Secret("canary"))
    assert "canary" not in f"{login!r} {login}"
    with pytest.raises(TypeError):
        pickle.dumps(login)
