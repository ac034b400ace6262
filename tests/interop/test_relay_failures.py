"""Without a relay there is no call, and it says why: one test for each cause, with the relay that has it.

Relays listen on 127.0.0.x with x > 1, so that 127.0.0.1 is our own address: it may show up nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from relaycall import errors
from relaycall.errors import NoPath, NoRelay, RelayError, RelayForbiddenPeer, RelayTimeout
from relaycall.ice import names
from relaycall.ice.connection import Connection
from relaycall.relays.server import RelayServer, Transport
from relaycall.server.turn import Relay
from relaycall.stun.address import Address
from tests.certificates import Authority, Leaf
from tests.coturn import Coturn, free_port
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scripted import PASSWORD, USERNAME, black_hole, error, granted, listening, turn

pytestmark = pytest.mark.interop

IP = "127.0.0.5"
OTHER_IP = "127.0.0.6"
NEVER = "127.0.0.99"  # where a redirect and a poisoned name point to
_LITERAL = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:]+")


class Site:
    """Where a test sets up its relays; everything ends with the test."""

    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self.stack = stack
        self.authority = Authority(directory)

    async def coturn(self, *extra: str, leaf: Leaf | None = None, ip: str = IP, **options: int) -> Coturn:
        files = {"cert": leaf.cert, "key": leaf.key} if leaf else {}
        return await self.stack.enter_async_context(
            Coturn(ip=ip, username=USERNAME, password=PASSWORD, extra=extra, **files, **options)  # type: ignore[arg-type]
        )

    async def script(self, *arguments: object, leaf: Leaf | None = None) -> int:
        context = leaf.server_context() if leaf else None
        return await self.stack.enter_async_context(listening(*arguments, ip=IP, context=context))  # type: ignore[arg-type]

    def at(self, port: int, transport: Transport = "udp", host: str = IP) -> RelayServer:
        context = self.authority.client_context() if transport == "tls" else None
        scheme, query = ("turns", "tcp") if transport == "tls" else ("turn", transport)
        uri = f"{scheme}:{host}:{port}?transport={query}"
        return RelayServer.parse(uri, username=USERNAME, password=PASSWORD, ssl_context=context)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack, tmp_path)


@pytest.fixture(autouse=True)
def nothing_told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No secret and no address of ours in the log, at DEBUG and of whatever library."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("tests").debug("DEBUG is seen")
    yield
    records = caplog.get_records("setup") + caplog.get_records("call")
    assert "DEBUG is seen" in [record.getMessage() for record in records]
    for record in records:
        assert_silent(logging.Formatter().format(record))


def assert_no_credentials(text: str) -> None:
    assert USERNAME not in text
    assert PASSWORD not in text


def assert_silent(text: str) -> None:
    """Neither credentials nor an address, but for those in the relays' names."""
    assert_no_credentials(text)
    without_names = re.sub(r"turns?:[^ ]+\?transport=\w+", "", text)
    assert not _LITERAL.findall(without_names)


async def gather_fails(*servers: RelayServer, within: float, laboratory: bool = True) -> NoRelay:
    """Gather on these relays alone; check all that holds for whatever failure, and give it."""
    connection = Connection(servers, ice_controlling=True, laboratory=laboratory)
    started = time.monotonic()
    try:
        with pytest.raises(NoRelay) as caught:
            await connection.gather_candidates()
        assert time.monotonic() - started < within
    finally:
        await connection.close()
    refused = caught.value
    assert connection.failures == list(refused.failures)
    assert [failure.relay for failure in refused.failures] == [server.name for server in servers]
    for failure, server in zip(refused.failures, servers, strict=True):
        assert failure.next_step
        assert server.name in failure.sentence
        assert failure.sentence in str(refused)
    if len(servers) == 1:
        assert refused.next_step == refused.failures[0].next_step
    for shown in (refused, *refused.failures):
        copy = pickle.loads(pickle.dumps(shown))
        assert (type(copy), str(copy)) == (type(shown), str(shown))
        assert_silent(f"{shown} {shown!r} {shown.args} {shown.__dict__} {pickle.dumps(shown)!r}")
        assert_nothing_foreign(shown)
    assert_silent(repr(connection))
    assert_no_credentials(repr(servers))
    return refused


def assert_nothing_foreign(shown: BaseException | None) -> None:
    """What a socket or the TLS library raised may quote an address: it is not even in the context."""
    seen = []
    while shown is not None and shown not in seen:
        seen.append(shown)
        assert not isinstance(shown, OSError) or isinstance(shown, errors.RelaycallError | TimeoutError), repr(shown)
        shown = shown.__cause__ or shown.__context__


# --- faults that show at once -----------------------------------------------------------------------------------------

Fault = Callable[[Site], Awaitable[RelayServer]]
AT_ONCE: list[tuple[type[RelayError], Fault]] = []
SILENT: list[tuple[type[RelayError], Fault]] = []


def shows(kind: type[RelayError], where: list[tuple[type[RelayError], Fault]] = AT_ONCE) -> Callable[[Fault], Fault]:
    def note(fault: Fault) -> Fault:
        where.append((kind, fault))
        return fault

    return note


@shows(errors.RelayRefusedCredentials)
async def wrong_password(site: Site) -> RelayServer:
    return (await site.coturn()).server().with_credentials(USERNAME, PASSWORD + "-not")


@shows(errors.RelayRefusedCredentials)
async def wrong_user_name(site: Site) -> RelayServer:
    return (await site.coturn()).server("tcp").with_credentials(USERNAME + "-not", PASSWORD)


@shows(errors.RelayNeedsCredentials)
async def no_credentials(site: Site) -> RelayServer:
    return replace((await site.coturn()).server(), username=None, password=None)


@shows(errors.RelayRefused)
async def refused_udp(site: Site) -> RelayServer:
    return site.at(free_port(IP))


@shows(errors.RelayRefused)
async def refused_tcp(site: Site) -> RelayServer:
    return site.at(free_port(IP), "tcp")


@shows(errors.RelayRefused)
async def refused_tls(site: Site) -> RelayServer:
    return site.at(free_port(IP), "tls")


@shows(errors.RelayNameUnknown)
async def unknown_name(site: Site) -> RelayServer:
    return site.at(3478, host="nobody.invalid")


@shows(errors.RelayCertificateInvalid)
async def self_signed_certificate(site: Site) -> RelayServer:
    relay = await site.coturn(leaf=site.authority.self_signed(IP))
    return replace(relay.server("tls"), ssl_context=None)  # the system's authorities


@shows(errors.RelayCertificateInvalid)
async def certificate_of_an_unknown_authority(site: Site) -> RelayServer:
    relay = await site.coturn(leaf=site.authority.leaf(IP))
    return replace(relay.server("tls"), ssl_context=None)


@shows(errors.RelayCertificateInvalid)
async def expired_certificate(site: Site) -> RelayServer:
    relay = await site.coturn(leaf=site.authority.leaf(IP, expired=True))
    return relay.server("tls", ssl_context=site.authority.client_context())


@shows(errors.RelayCertificateName)
async def certificate_for_another_name(site: Site) -> RelayServer:
    relay = await site.coturn(leaf=site.authority.leaf("relay.test"))
    return relay.server("tls", ssl_context=site.authority.client_context())


@shows(errors.RelayCertificateName)
async def certificate_for_another_pinned_name(site: Site) -> RelayServer:
    relay = await site.coturn(leaf=site.authority.leaf(IP))
    return replace(relay.server("tls", ssl_context=site.authority.client_context()), tls_name="relay.test")


@shows(errors.RelayTlsFailed)
async def plain_port_spoken_to_with_tls(site: Site) -> RelayServer:
    relay = await site.stack.enter_async_context(Relay(host=IP, users={USERNAME: PASSWORD}))
    assert relay.tcp_port is not None
    return site.at(relay.tcp_port, "tls")


@shows(errors.RelayTlsFailed)
async def http_spoken_to_with_tls(site: Site) -> RelayServer:
    return site.at(await site.script(lambda *_: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "tcp"), "tls")


@shows(errors.RelayNotTurn)
async def http_server_that_closes(site: Site) -> RelayServer:
    return site.at(await site.script(lambda *_: [b"HTTP/1.1 400 Bad Request\r\n\r\n", None], "tcp"), "tcp")


@shows(errors.RelayNotTurn)
async def http_server_that_waits_for_more(site: Site) -> RelayServer:
    return site.at(await site.script(lambda *_: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "tcp"), "tcp")


@shows(errors.RelayNotTurn)
async def https_server(site: Site) -> RelayServer:
    leaf = site.authority.leaf(IP)
    return site.at(await site.script(lambda *_: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "tls", leaf=leaf), "tls")


@shows(errors.RelayNotTurn)
async def server_that_hangs_up(site: Site) -> RelayServer:
    return site.at(await site.script(lambda *_: [None], "tcp"), "tcp")


@shows(errors.RelayQuota)
async def quota(site: Site) -> RelayServer:
    relay = await site.coturn("--user-quota=1")
    await hold(site, relay.server())
    return relay.server()


@shows(errors.RelayCapacity)
async def capacity(site: Site) -> RelayServer:
    port = free_port(IP) // 2 * 2
    relay = await site.coturn(min_port=port, max_port=port + 1)
    await hold(site, relay.server())
    await hold(site, relay.server())
    return relay.server()


@shows(errors.RelayRedirected)
async def redirect(site: Site) -> RelayServer:
    return (await site.coturn(f"--alternate-server={NEVER}:3478")).server()


@shows(errors.RelayUnsupported)
async def only_the_other_family(site: Site) -> RelayServer:
    relayed = Address("2001:db8:cafe::1", 50000)
    return site.at(await site.script(turn(granted(relayed))))


@shows(errors.RelayBusy)
async def allocation_mismatch_on_every_socket(site: Site) -> RelayServer:
    return site.at(await site.script(turn(lambda request, _, key: error(request, 437, key))))


@shows(errors.RelayForbidden)
async def forbidden(site: Site) -> RelayServer:
    return site.at(await site.script(turn(lambda request, _, key: error(request, 403, key))))


@shows(errors.RelayUnsupported)
async def unsupported_transport(site: Site) -> RelayServer:
    return site.at(await site.script(turn(lambda request, _, key: error(request, 442, key))))


@shows(errors.RelayServerError)
async def server_error(site: Site) -> RelayServer:
    return site.at(await site.script(turn(lambda request, _, key: error(request, 500, key))))


@shows(errors.RelayLied)
async def grant_that_is_not_signed(site: Site) -> RelayServer:
    return site.at(await site.script(turn(granted(signed_with=None))))


@shows(errors.RelayLied)
async def grant_signed_with_another_password(site: Site) -> RelayServer:
    return site.at(await site.script(turn(granted(signed_with=b"not the key"))))


@shows(errors.RelayLied)
async def relayed_address_with_a_reserved_port(site: Site) -> RelayServer:
    return site.at(await site.script(turn(granted(Address(IP, 53)))))


@shows(errors.RelayLied)
async def relayed_address_that_is_our_own(site: Site) -> RelayServer:
    return site.at(await site.script(turn(lambda request, source, key: granted(source)(request, source, key))))


async def hold(site: Site, server: RelayServer) -> None:
    """Keep an allocation for the rest of the test."""
    connection = Connection([server], ice_controlling=True, laboratory=True)
    site.stack.push_async_callback(connection.close)
    await connection.gather_candidates()


@pytest.fixture(autouse=True)
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question leaves this machine."""
    ask = socket.getaddrinfo

    def lookup(host: str, *arguments: object, **options: object) -> object:
        if host == "nobody.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.mark.parametrize(("kind", "fault"), AT_ONCE, ids=lambda value: value.__name__)
async def test_a_fault_shows_at_once(
    kind: type[RelayError], fault: Fault, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    refused = await gather_fails(await fault(site), within=2.0)
    assert [type(failure) for failure in refused.failures] == [kind]
    assert [str(refused.failures[0])] == warnings(caplog)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "relaycall.ice.gathering" and record.levelno == logging.WARNING
    ]


# --- faults that are silence ------------------------------------------------------------------------------------------


def hole(site: Site, transport: Transport) -> RelayServer:
    return site.at(site.stack.enter_context(black_hole("udp" if transport == "udp" else "tcp", ip=IP)), transport)


@shows(errors.RelayTimeout, SILENT)
async def black_hole_udp(site: Site) -> RelayServer:
    return hole(site, "udp")


@shows(errors.RelayTimeout, SILENT)
async def black_hole_tcp(site: Site) -> RelayServer:
    return hole(site, "tcp")


@shows(errors.RelayTimeout, SILENT)
async def black_hole_tls(site: Site) -> RelayServer:
    return hole(site, "tls")


@shows(errors.RelayTimeout, SILENT)
async def tls_handshake_without_an_answer(site: Site) -> RelayServer:
    return site.at(await site.script(lambda *_: [], "tcp"), "tls")


@shows(errors.RelayTimeout, SILENT)
async def tls_port_spoken_to_with_plain_tcp(site: Site) -> RelayServer:
    """To OpenSSL an Allocate is the beginning of a long record."""
    return site.at(await site.script(lambda *_: [], "tls", leaf=site.authority.leaf(IP)), "tcp")


@shows(errors.RelayTimeout, SILENT)
async def tcp_backlog_that_is_full(site: Site) -> RelayServer:
    server = hole(site, "tcp")
    for _ in range(16):  # from then on the kernel drops the SYN
        filler = site.stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex((IP, server.port))
    return server


@shows(errors.RelayTimeout, SILENT)
async def relay_that_asks_for_credentials_and_dies(site: Site) -> RelayServer:
    return site.at(await site.script(turn(lambda *_: None)))


@shows(errors.RelayTimeout, SILENT)
async def frozen_relay(site: Site) -> RelayServer:
    relay = await site.coturn()
    relay.freeze()
    return relay.server("tcp")


@shows(errors.RelayNotTurn, SILENT)
async def service_that_is_not_stun(site: Site) -> RelayServer:
    return site.at(await site.script(lambda *_: [b"what?\n"]))


@shows(errors.RelayNotTurn, SILENT)
async def echo_udp(site: Site) -> RelayServer:
    return site.at(await site.script(lambda data, _: [data]))


@shows(errors.RelayNotTurn, SILENT)
async def echo_tcp(site: Site) -> RelayServer:
    return site.at(await site.script(lambda data, _: [data], "tcp"), "tcp")


async def test_silence_is_over_within_five_seconds(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    servers = [await fault(site) for _, fault in SILENT]
    refused = await gather_fails(*servers, within=5.5)
    found = {fault.__name__: type(failure) for (_, fault), failure in zip(SILENT, refused.failures, strict=True)}
    assert found == {fault.__name__: kind for kind, fault in SILENT}
    assert warnings(caplog) == [str(failure) for failure in refused.failures]


async def test_plain_port_of_coturn_spoken_to_with_tls(site: Site) -> None:
    """coturn resets the connection or says nothing, as the handshake's first bytes find it."""
    refused = await gather_fails(site.at((await site.coturn()).port, "tls"), within=5.5)
    assert type(refused.failures[0]) in (errors.RelayTlsFailed, errors.RelayTimeout)


# --- several relays ---------------------------------------------------------------------------------------------------


async def test_two_dead_relays_give_both_reasons(site: Site) -> None:
    dead = [await refused_udp(site), await wrong_password(site)]
    refused = await gather_fails(*dead, within=2.0)
    assert [type(failure) for failure in refused.failures] == [errors.RelayRefused, errors.RelayRefusedCredentials]
    assert "refused the connection" in str(refused)
    assert "refused the user name or password" in str(refused)


async def test_one_good_relay_among_faulty_ones_is_enough(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    faults: list[tuple[type[RelayError], Fault]] = [
        (errors.RelayRefusedCredentials, wrong_password),
        (errors.RelayRefused, refused_tcp),
        (RelayTimeout, black_hole_tls),
        (errors.RelayCertificateName, certificate_for_another_name),
        (errors.RelayLied, grant_that_is_not_signed),
    ]
    servers = [await fault(site) for _, fault in faults]
    good = (await site.coturn(ip=OTHER_IP)).server()
    connection = Connection([*servers[:3], good, *servers[3:]], ice_controlling=True, laboratory=True)
    started = time.monotonic()
    try:
        await connection.gather_candidates()
        assert time.monotonic() - started < 2.0  # the good one does not wait for the black hole's time to run out
        assert [candidate.host for candidate in connection.local_candidates] == [OTHER_IP]
        assert [type(failure) for failure in connection.failures] == [kind for kind, _ in faults]
        assert [failure.relay for failure in connection.failures] == [server.name for server in servers]
        assert warnings(caplog) == [str(failure) for failure in connection.failures]
    finally:
        await connection.close()


async def test_without_any_relay() -> None:
    refused = await gather_fails(within=0.1)
    assert refused.failures == ()
    assert "No relay is configured" in str(refused)


async def test_relayed_address_of_a_private_network(site: Site) -> None:
    """Only a laboratory allows them; everybody else has a relay that lies, or one that reaches into their network."""
    server = (await site.coturn()).server()
    refused = await gather_fails(server, within=2.0, laboratory=False)
    assert [type(failure) for failure in refused.failures] == [errors.RelayLied]
    assert refused.exit_code == 5


async def test_relayed_address_on_our_own_host(site: Site) -> None:
    ours = turn(lambda request, source, key: granted(Address(source.host, 50000))(request, source, key))
    refused = await gather_fails(site.at(await site.script(ours)), within=2.0, laboratory=False)
    assert [type(failure) for failure in refused.failures] == [errors.RelayLied]
    assert "this machine's own" in str(refused)


async def test_a_name_that_resolves_is_shown_as_a_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port(NEVER)

    async def lookup(host: str, _port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "relay.test"
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (NEVER, port))]

    monkeypatch.setattr(names, "getaddrinfo", lookup)
    refused = await gather_fails(*(site.at(port, kind, "relay.test") for kind in ("udp", "tcp", "tls")), within=2.0)
    assert {type(failure) for failure in refused.failures} == {errors.RelayRefused}


# --- the peer's relay -------------------------------------------------------------------------------------------------


async def test_forbidden_peer(site: Site) -> None:
    strict = await site.coturn(f"--denied-peer-ip={OTHER_IP}")
    alice = Connection([strict.server()], ice_controlling=True, laboratory=True)
    bob = Connection([(await site.coturn(ip=OTHER_IP)).server()], ice_controlling=False, laboratory=True)
    with ExitStack() as told:
        told.callback(lambda: assert_silent(f"{alice.failures} {alice.error!r} {alice!r}"))
        try:
            await asyncio.gather(alice.gather_candidates(), bob.gather_candidates())
            for one, other in ((alice, bob), (bob, alice)):
                one.remote_username, one.remote_password = other.local_username, other.local_password
                for candidate in other.local_candidates:
                    await one.add_remote_candidate(candidate)
            results = await asyncio.gather(alice.connect(), bob.connect(timeout=0.5), return_exceptions=True)
        finally:
            await asyncio.gather(alice.close(), bob.close())
    refused, unanswered = results
    assert isinstance(refused, RelayForbiddenPeer)
    assert refused.relay == strict.server().name
    assert str(refused) == str(pickle.loads(pickle.dumps(refused)))
    assert alice.failures == [refused]
    assert alice.error is refused
    assert isinstance(unanswered, NoPath)
    assert_silent(f"{refused} {refused!r}")
