"""A relay that says what the test tells it to, to a TURN client without I/O, in exact time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from relaycall.redact import Secret
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, Address
from relaycall.stun.message import Class, Message, Method, decode, long_term_key
from relaycall.stun.turn_client import TurnClient
from relaycall.stun.turn_events import Allocated, Event

NAME = "turn:relay.example:3478?transport=udp"
USER, PASSWORD, REALM = "alice", "a password", "relay.example"
KEY = long_term_key(USER, REALM, PASSWORD)
KEY_SHA256 = long_term_key(USER, REALM, PASSWORD, sha256=True)

LOCAL = Address("192.168.1.7", 40000)
MAPPED = Address("9.9.9.9", 61000)
RELAYED = Address("1.2.3.4", 50000)
PEER = Address("5.6.7.8", 50001)
OTHER = Address("5.6.7.9", 50001)

Pair = tuple[a.Attribute[Any], Any]


class Relay:
    """The scripted relay, and the clock.

    Attributes:
        client: the client under test; options go to its constructor.
        now: seconds; starts at 1000.
        heard: every message the client sent, with the time, in order.
    """

    def __init__(
        self,
        *,
        username: str | None = USER,
        password: str | None = PASSWORD,
        family: int = IPV4,
        reliable: bool = False,
        laboratory: bool = False,
    ) -> None:
        self.now = 1000.0
        self.heard: list[tuple[float, Message]] = []
        self.client = TurnClient(
            relay=NAME,
            username=username,
            password=None if password is None else Secret(password),
            random=random.Random(1).randbytes,
            family=family,
            reliable=reliable,
            laboratory=laboratory,
        )
        self.client.local = LOCAL

    # --- what the client does -----------------------------------------------------------------------------------------

    def take(self) -> list[Message]:
        """What the client sent since."""
        new = []
        while self.client.outgoing:
            new.append(decode(self.client.outgoing.popleft()))
        self.heard += [(self.now, message) for message in new]
        return new

    def one(self, method: Method) -> Message:
        """The one request of this method that the client sent since."""
        (message,) = self.take()
        assert (message.method, message.kind) == (method, Class.REQUEST)
        return message

    def events(self) -> list[Event]:
        """What the client told since."""
        events = list(self.client.events)
        self.client.events.clear()
        return events

    def event(self) -> Event:
        """The one thing it told since."""
        (event,) = self.events()
        return event

    def times(self, method: Method) -> list[float]:
        """When it sent requests of this method."""
        return [at for at, message in self.heard if message.method is method]

    # --- what the relay answers ---------------------------------------------------------------------------------------

    def says(self, message: Message, *, key: bytes | None, sha256: bool = False) -> tuple[Address, bytes] | None:
        """Have the client receive this."""
        return self.client.receive(message.encode(key, sha256=sha256), self.now)

    def success(self, request: Message, *attributes: Pair, key: bytes | None = KEY, sha256: bool = False) -> None:
        self.says(Message(request.method, Class.SUCCESS, request.transaction_id, attributes), key=key, sha256=sha256)

    def error(self, request: Message, code: int, *attributes: Pair, key: bytes | None = None) -> None:
        attributes = (a.ERROR_CODE(a.ErrorCode(code)), *attributes)
        self.says(Message(request.method, Class.ERROR, request.transaction_id, attributes), key=key)

    def challenge(self, request: Message, nonce: str = "n1", *attributes: Pair, code: int = 401) -> None:
        self.error(request, code, a.REALM(REALM), a.NONCE(nonce), *attributes)

    def grant(
        self,
        request: Message,
        relayed: Address = RELAYED,
        *attributes: Pair,
        lifetime: int = 600,
        mapped: Address = MAPPED,
        key: bytes | None = KEY,
    ) -> None:
        self.success(
            request,
            a.XOR_RELAYED_ADDRESS(relayed),
            a.XOR_MAPPED_ADDRESS(mapped),
            a.LIFETIME(lifetime),
            *attributes,
            key=key,
        )

    def data(self, peer: Address, payload: bytes) -> tuple[Address, bytes] | None:
        """A Data indication."""
        attributes = [a.XOR_PEER_ADDRESS(peer), a.DATA(payload)]
        return self.says(Message(Method.DATA, Class.INDICATION, bytes(12), attributes), key=None)

    # --- longer scenes ------------------------------------------------------------------------------------------------

    def ask(self) -> Message:
        """Start, challenge, and return the authenticated Allocate."""
        self.client.start(self.now)
        self.challenge(self.one(Method.ALLOCATE))
        return self.one(Method.ALLOCATE)

    def allocate(self, lifetime: int = 600) -> TurnClient:
        """Grant an allocation."""
        request = self.ask()
        self.grant(request, lifetime=lifetime)
        assert isinstance(self.event(), Allocated)
        return self.client

    def bind(self, peer: Address = PEER) -> None:
        """Have a peer added and its channel bound."""
        self.client.add_peer(peer, self.now)
        self.success(self.one(Method.CHANNEL_BIND))

    def run(self, until: float, answer: Callable[[Message], object] = lambda _request: None) -> None:
        """Let time pass to `until`, stopping where the client wants to be called; `answer` sees each request."""
        for request in self.take():
            answer(request)
        while (at := self.client.next_timeout()) <= until:
            self.now = max(self.now, at)
            self.client.handle_timeout(self.now)
            for request in self.take():
                answer(request)
        self.now = until

    def obey(self, request: Message) -> None:
        """Say yes to whatever it is."""
        self.success(request, a.LIFETIME(600))
