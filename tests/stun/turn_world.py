"""A TURN server without sockets, its clients, and a clock that only the test moves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, Address
from relaycall.stun.message import Class, Message, Method, decode, long_term_key
from relaycall.stun.turn_allocation import Allocation
from relaycall.stun.turn_auth import ALGORITHMS, Authenticator
from relaycall.stun.turn_server import TurnServer

ALICE = ("198.51.100.7", 40000)
BOB = ("198.51.100.8", 40000)
PEER = Address("1.2.3.4", 5000)
PEER6 = Address("2a00::1", 5000)
UNIX = 1_700_000_000.0
MYSTERY: a.Attribute[bytes] = a.Attribute.__new__(a.Attribute)  # one that must be understood and is not
MYSTERY.type, MYSTERY.pack = 0x7ABC, lambda value, _: value
ALLOCATE = (a.REQUESTED_TRANSPORT(17),)


class FakeSocket:
    """A relayed socket that keeps what it is given."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.allocation: Allocation | None = None
        self.sent: list[tuple[bytes, Address]] = []
        self.closed = False
        self.full = False

    def send(self, data: bytes, peer: Address) -> bool:
        assert not self.closed
        self.sent.append((data, peer))
        return not self.full

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class World:
    """A server, its fake ports, and a clock that only the test moves."""

    def __init__(self, users: Mapping[str, str] | None = None, **options: Any) -> None:
        self.now = 1000.0
        self.unix = UNIX
        self.opened: list[FakeSocket] = []
        self.ports_left = 1000
        self._bytes = itertools.count(1)
        options.setdefault("families", frozenset({IPV4}))
        self.server = TurnServer(
            authenticator=Authenticator(
                realm="example",
                users={"alice": "a-pass", "bob": "b-pass"} if users is None else users,
                auth_secret="shared",
                random=self.random,
                unix_time=lambda: self.unix,
            ),
            open_sockets=self.open_sockets,
            random=self.random,
            **options,
        )

    def random(self, size: int) -> bytes:
        return next(self._bytes).to_bytes(size, "big")

    def open_sockets(self, family: int, *, even: bool, pair: bool) -> list[FakeSocket]:
        wanted = 2 if pair else 1
        if self.ports_left < wanted:
            return []
        self.ports_left -= wanted
        port = 50000 + 2 * len(self.opened) + (not even)
        host = "203.0.113.1" if family == IPV4 else "2001:db8::1"
        opened = [FakeSocket(Address(host, port + n)) for n in range(wanted)]
        self.opened += opened
        return opened

    def receive(self, source: tuple[Any, ...], data: bytes) -> Message | None:
        answer = self.server.receive(source, data, self.now)
        return None if answer is None else decode(answer)


class Client:
    """A client of the server: signs its requests, follows challenges, checks the signature of every answer."""

    def __init__(
        self,
        world: World,
        source: tuple[Any, ...] = ALICE,
        username: str = "alice",
        password: str = "a-pass",
        algorithm: a.PasswordAlgorithm | None = None,
    ) -> None:
        self.world = world
        self.source = source
        self.username = username
        self.algorithm = algorithm
        sha256 = algorithm == ALGORITHMS[0]
        self.key = long_term_key(username, "example", password, sha256=sha256)
        self.nonce = ""
        self.tids = itertools.count(1)

    def tid(self) -> bytes:
        return next(self.tids).to_bytes(12, "big")

    def send(self, method: Method, *attributes: Any, tid: bytes | None = None) -> Message:
        """One signed request and its answer, as it is."""
        signed = [*attributes, a.USERNAME(self.username), a.REALM("example"), a.NONCE(self.nonce)]
        if self.algorithm is not None:
            signed += [a.PASSWORD_ALGORITHMS(ALGORITHMS), a.PASSWORD_ALGORITHM(self.algorithm)]
        request = Message(method, Class.REQUEST, self.tid() if tid is None else tid, signed)
        answer = self.world.receive(self.source, request.encode(self.key, sha256=self.algorithm is not None))
        assert answer is not None
        assert answer.method is method
        assert answer.transaction_id == request.transaction_id
        return answer

    def request(self, method: Method, *attributes: Any, tid: bytes | None = None) -> Message:
        """The same with a nonce; the answer must be signed, with the algorithm of the request."""
        if not self.nonce:
            self.nonce = self.challenge()
        answer = self.send(method, *attributes, tid=tid)
        assert answer.verify(self.key)
        assert answer.has(a.MESSAGE_INTEGRITY_SHA256) == (self.algorithm is not None)
        assert answer.has(a.MESSAGE_INTEGRITY) == (self.algorithm is None)
        return answer

    def challenge(self) -> str:
        answer = self.world.receive(self.source, Message(Method.ALLOCATE, Class.REQUEST, self.tid(), ALLOCATE).encode())
        assert answer is not None
        nonce = answer.get(a.NONCE)
        assert nonce is not None
        return nonce

    def allocate(self, *attributes: Any, tid: bytes | None = None) -> FakeSocket:
        answer = self.request(Method.ALLOCATE, *ALLOCATE, *attributes, tid=tid)
        assert answer.kind is Class.SUCCESS, code(answer)
        return next(s for s in self.world.opened if s.address == answer.get(a.XOR_RELAYED_ADDRESS) and not s.closed)

    def permit(self, *peers: Address) -> Message:
        return self.request(Method.CREATE_PERMISSION, *map(a.XOR_PEER_ADDRESS, peers))

    def bind(self, number: int, peer: Address) -> Message:
        return self.request(Method.CHANNEL_BIND, a.CHANNEL_NUMBER(number), a.XOR_PEER_ADDRESS(peer))

    def indicate(self, *attributes: Any) -> None:
        """A Send indication."""
        message = Message(Method.SEND, Class.INDICATION, self.tid(), attributes)
        assert self.world.receive(self.source, message.encode()) is None


def code(answer: Message) -> int:
    error = answer.get(a.ERROR_CODE)
    assert error is not None, "a success"
    return error.code


def from_peer(world: World, sock: FakeSocket, data: bytes, peer: tuple[Any, ...] = PEER) -> bytes | None:
    return world.server.from_peer(sock.allocation, data, peer, world.now)
