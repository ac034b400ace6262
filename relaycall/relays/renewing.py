"""Credentials that are asked for again before they expire."""

from __future__ import annotations

import asyncio
import time

from relaycall.errors import CredentialsError, CredentialsTimeout, RelaycallError
from relaycall.relays.credentials import CredentialsSource, RelayCredentials
from relaycall.relays.server import RelayServer

RENEW_AFTER = 0.8  # of the time that credentials hold
CLOCKS_DIFFER = 300.0  # seconds taken for that time when they seem to have expired already
FIRST_RETRY, LAST_RETRY = 1.0, 30.0  # seconds between requests that fail, doubled each time
SOURCE_TIMEOUT = 30.0  # seconds


class Renewal:
    """The newest credentials of a source, and when to ask for others.

    Args:
        source: who gives them; None if every relay has its own.

    Attributes:
        at: when to ask again, by the event loop's clock; infinity for never.
    """

    def __init__(self, source: CredentialsSource | None) -> None:
        self.at = float("inf")
        self._source = source
        self._credentials: RelayCredentials | None = None
        self._asking = False
        self._asked_at = 0.0
        self._retry = FIRST_RETRY

    async def ask(self) -> bool:
        """Ask. Returns whether there are new ones.

        When they expire is read from the clock on the wall once, here: it may be set later on.

        Raises:
            RelaycallError: what the source raises; a CredentialsError for what it may not, and after 30 seconds.
        """
        if self._source is None:
            return False
        loop = asyncio.get_running_loop()
        self._asked_at, self.at, self._asking = loop.time(), float("inf"), True
        try:
            fresh = await _ask(self._source)
        except RelaycallError:
            self.at = loop.time() + self._retry
            raise
        finally:
            self._asking = False
            self._retry = min(2 * self._retry, LAST_RETRY)
        left = float("inf") if fresh.expires_at is None else fresh.expires_at - time.time()
        self.at = loop.time() + max(RENEW_AFTER * (left if left > 0 else CLOCKS_DIFFER), FIRST_RETRY)
        older, self._credentials = self._credentials, fresh
        return older is None or (older.username, older.password) != (fresh.username, fresh.password)

    def worked(self) -> None:
        """A relay took them."""
        self._retry = FIRST_RETRY

    def refused(self) -> None:
        """A relay refused them: they expired while this machine slept, or were revoked. Others are asked for soon."""
        if self._source is not None and not self._asking:
            self.at = min(self.at, self._asked_at + self._retry)

    def dialled(self, server: RelayServer) -> RelayServer:
        """The relay with credentials: its own, or these."""
        if server.username is not None or self._credentials is None:
            return server
        return server.with_credentials(self._credentials.username, self._credentials.password)


async def _ask(source: CredentialsSource) -> RelayCredentials:
    """Ask a source, which may be anybody's code. Raises RelaycallError."""
    name = type(source).__name__
    failure: RelaycallError
    try:
        async with asyncio.timeout(SOURCE_TIMEOUT):
            return await source.credentials()
    except RelaycallError:
        raise
    except TimeoutError:
        failure = CredentialsTimeout(name)
    except Exception as error:
        failure = CredentialsError(name, f"it raised {type(error).__name__}")
    raise failure  # outside of the handler: the foreign error is not even its context
