"""When credentials are asked for again."""

from __future__ import annotations

import asyncio
import time

import pytest

from relaycall.errors import CredentialsError, CredentialsTimeout
from relaycall.redact import Secret
from relaycall.relays import renewing
from relaycall.relays.credentials import RelayCredentials
from relaycall.relays.renewing import CLOCKS_DIFFER, FIRST_RETRY, LAST_RETRY, RENEW_AFTER, Renewal
from relaycall.relays.server import RelayServer
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here


class Source:
    """Gives what it is told to, or raises it."""

    def __init__(self, *answers: RelayCredentials | Exception) -> None:
        self.answers = list(answers)

    async def credentials(self) -> RelayCredentials:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Hanging:
    async def credentials(self) -> RelayCredentials:
        await asyncio.Event().wait()
        raise AssertionError


def made(username: str, ttl: float | None = None) -> RelayCredentials:
    return RelayCredentials(username, Secret("password"), None if ttl is None else time.time() + ttl)


def left(renewal: Renewal) -> float:
    return renewal.at - asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("ttl", "after"),
    [(1000.0, RENEW_AFTER * 1000), (0.1, FIRST_RETRY), (-3600.0, RENEW_AFTER * CLOCKS_DIFFER), (None, float("inf"))],
)
async def test_they_are_asked_for_again_when_most_of_their_time_is_over(ttl: float | None, after: float) -> None:
    renewal = Renewal(Source(made("one", ttl)))
    assert await renewal.ask()
    assert left(renewal) == pytest.approx(after, abs=0.5)


async def test_only_others_are_new() -> None:
    renewal = Renewal(Source(made("one", 10), made("one", 20), made("two", 20)))
    assert [await renewal.ask() for _ in range(3)] == [True, False, True]


async def test_a_source_that_fails_is_asked_after_longer_and_longer_times_until_a_relay_takes_them() -> None:
    renewal = Renewal(Source(*[CredentialsError("https://endpoint.test")] * 8))
    waits = []
    for _ in range(7):
        with pytest.raises(CredentialsError):
            await renewal.ask()
        waits.append(round(left(renewal)))
    assert waits == [1, 2, 4, 8, 16, LAST_RETRY, LAST_RETRY]
    renewal.worked()
    with pytest.raises(CredentialsError):
        await renewal.ask()
    assert round(left(renewal)) == FIRST_RETRY


async def test_when_a_relay_refuses_them_others_are_asked_for_soon_but_not_while_they_are() -> None:
    renewal = Renewal(Source(made("one", 1000)))
    await renewal.ask()
    renewal.refused()
    assert left(renewal) < 3
    asking = Renewal(Hanging())
    asking.at = 0.0  # its time has come
    task = asyncio.ensure_future(asking.ask())
    await asyncio.sleep(0)
    asking.refused()
    assert asking.at == float("inf")
    task.cancel()
    await asyncio.wait([task])


async def test_a_source_that_hangs_is_an_error_that_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "SOURCE_TIMEOUT", 0.02)
    renewal = Renewal(Hanging())
    with pytest.raises(CredentialsTimeout):
        await renewal.ask()
    assert renewal.at < float("inf")


async def test_what_a_source_may_not_raise_is_a_credentials_error_without_its_text() -> None:
    with pytest.raises(CredentialsError, match="ZeroDivisionError") as caught:
        await Renewal(Source(ZeroDivisionError("a secret"))).ask()
    assert "a secret" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_only_relays_without_credentials_of_their_own_get_them() -> None:
    plain, own = RelayServer.parse("turn:a.test"), RelayServer.parse("turn:b.test", username="me", password="mine")
    renewal = Renewal(Source(made("one")))
    assert renewal.dialled(plain) == plain
    await renewal.ask()
    assert renewal.dialled(plain).username == "one"
    assert renewal.dialled(own) == own
    nobody = Renewal(None)
    assert not await nobody.ask()
    nobody.refused()
    assert nobody.at == float("inf")
