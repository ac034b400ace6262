"""Two people, and what is between them: one is at the command line, the other a phone in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from relaycall.call.phone import Phone
from relaycall.identity import own
from relaycall.identity.card import Card, card_to_text
from relaycall.identity.contacts import ContactBook
from relaycall.identity.own import create_own, load_own
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from relaycall.server.signaling import SignalingServer
from relaycall.server.turn import Relay
from relaycall.store import vault
from relaycall.store.vault import VaultStore
from relaycall.store.vault_format import LOWEST

T = TypeVar("T")
PASSPHRASE = "passphrase-canary"
PASSWORD = "relay-password-canary"
NOW = 1_700_000_000.0


class Person:
    """Somebody with a folder and a vault, who can be at the command line.

    Attributes:
        env: all of the environment that they run things in.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RELAYCALL_")},
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "RELAYCALL_VAULT_PASSPHRASE": PASSPHRASE,
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }

    @property
    def store(self) -> VaultStore:
        return VaultStore(self.folder / "data" / "relaycall" / "vault", Secret(PASSPHRASE))

    def card(self) -> Card:
        return asyncio.run(load_own(self.store, NOW)).card()

    def make(self, name: str, signaling: str) -> Card:
        """Give them keys."""
        asyncio.run(create_own(self.store, name, signaling, NOW))
        return self.card()

    @property
    def card_text(self) -> str:
        return card_to_text(self.card())


@pytest.fixture
def cheap_vaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """New vaults are made at the lowest cost, and nobody else writes into them."""
    monkeypatch.setattr(vault, "COST", LOWEST)
    monkeypatch.setattr(own, "SETTLE", 0.01)


class Between:
    """What is between two people, in a thread with a loop of its own. A context manager.

    Attributes:
        url: of the signaling server.
        uri: of the relay.
    """

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._begun: set[asyncio.Future[Any]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._credential = folder / "credential"
        self._credential.write_text(PASSWORD + "\n")
        self.url = self.uri = ""

    def __enter__(self) -> Between:
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, job: Coroutine[Any, Any, T], timeout: float = 40) -> T:
        """Have something done in the thread."""
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(timeout)

    def start(self, job: Coroutine[Any, Any, T]) -> Future[T]:
        """Have something begun in the thread."""

        async def begun() -> T:
            task = asyncio.ensure_future(job)
            self._begun.add(task)
            return await task

        return asyncio.run_coroutine_threadsafe(begun(), self._loop)

    @property
    def relays(self) -> list[str]:
        """Arguments for a call."""
        found = ["--laboratory", "--relay", self.uri, "--user", "demo"]
        return [*found, "--credential-file", str(self._credential)]

    @property
    def relay(self) -> RelayServer:
        """The relay, with its credentials."""
        return RelayServer.parse(self.uri, username="demo", password=PASSWORD)

    def phone(self, person: Person, **options: Any) -> Phone:
        """Their phone, open until the end."""

        async def opened() -> Phone:
            options.setdefault("signaling", self.url)
            phone = Phone(relays=[self.relay], store=person.store, laboratory=True, prewarm=False, **options)
            return await self._stack.enter_async_context(phone)

        return self.run(opened())

    def end_relay(self) -> None:
        """From now on nothing comes through."""
        self.run(self._relay.close())

    async def _close(self) -> None:
        """What a test that failed has begun is ended, too."""
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)
        await self._stack.aclose()

    async def _open(self) -> None:
        server = await self._stack.enter_async_context(SignalingServer(port=0))
        self._relay = await self._stack.enter_async_context(
            Relay(host="127.0.0.1", users={"demo": PASSWORD}, laboratory=True)
        )
        self.url, self.uri = server.url("ws"), self._relay.uri("udp")


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Between]:
    with Between(tmp_path) as found:
        yield found


@pytest.fixture
def alice(tmp_path: Path, cheap_vaults: None) -> Person:
    return Person(tmp_path / "alice")


@pytest.fixture
def bob(tmp_path: Path, cheap_vaults: None) -> Person:
    return Person(tmp_path / "bob")


def introduce(*people: tuple[Person, str]) -> None:
    """Make each a contact of all others, under these names."""

    async def add(person: Person, card: Card, name: str) -> None:
        book = ContactBook(person.store)
        await book.load()
        await book.add(card, NOW, name)

    for person, _ in people:
        for other, name in people:
            if other is not person:
                asyncio.run(add(person, other.card(), name))
