"""What every test of an embedded server has: a certificate, and a look at what it leaves behind."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from relaycall.server.certificates import development_tls
from tests.server.turn_clients import open_sockets


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return development_tls("127.0.0.1")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() == before
