"""What a diagnosis makes of what the checks found: each cause, told from the others."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest

from relaycall.config import Settings
from relaycall.diagnosis import Cause, Finding, Status, diagnose, machine, network
from relaycall.diagnosis.network import Reached, judge, reach, ways_to
from relaycall.errors import (
    RelayError,
    RelayLied,
    RelayNameUnknown,
    RelayRefused,
    RelayRefusedCredentials,
    RelayTimeout,
    RelayUnreachable,
    StoreLocked,
    StoreUnavailable,
)
from relaycall.relays.probe_result import ProbeResult, Verdict, failed
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay

UDP = RelayServer.parse("turn:a.test")
TCP = RelayServer.parse("turn:a.test?transport=tcp")
TLS = RelayServer.parse("turns:a.test")
OTHER = RelayServer.parse("turn:b.test")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RELAYCALL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


# --- relays ----------------------------------------------------------------------------------------------------------

OK = None


def judged(
    results: Mapping[RelayServer, type[RelayError] | Verdict | None],
    *configured: RelayServer,
    online: bool = True,
) -> list[Finding]:
    made = {}
    for server, what in results.items():
        if isinstance(what, type):
            made[server] = failed(server, what(server.name))
        else:
            made[server] = ProbeResult(server, what or Verdict.OK, rtt_ms=12.34)
    return judge(configured or (UDP,), Reached(made, online))


def short(finding: Finding) -> tuple[Status, Cause, int]:
    return finding.status, finding.cause, finding.exit_code


def test_a_relay_that_works() -> None:
    relay, transports = judged({UDP: OK, TCP: RelayTimeout, TLS: RelayRefused})
    assert short(relay) == (Status.OK, Cause.NONE, 0)
    assert relay.check == "relay turn:a.test:3478?transport=udp"
    assert "12.3 ms" in relay.sentence
    assert transports.check == "transports a.test"
    assert transports.sentence == "UDP 3478 works, TCP 3478 is silent, TLS 5349 fails (relay_refused)."
    assert transports.status is Status.OK


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(Verdict.OK, Status.OK), (Verdict.UNCHECKED, Status.OK), (Verdict.LOSSY, Status.WARN)],
)
def test_a_relay_that_can_be_used(verdict: Verdict, status: Status) -> None:
    assert judged({UDP: verdict})[0].status is status


def test_local_network_nothing_answered() -> None:
    for error in (RelayTimeout, RelayUnreachable, RelayNameUnknown):
        relay, transports = judged({UDP: error, TCP: error, TLS: error}, online=False)
        assert short(relay) == (Status.FAIL, Cause.LOCAL_NETWORK, 3)
        assert "online" in relay.next_step
        assert transports.status is Status.WARN
        assert transports.next_step


def test_blocked_transport() -> None:
    silent_udp = {UDP: RelayTimeout, TCP: RelayRefused, TLS: OK}
    finding = judged(silent_udp)[0]
    assert short(finding) == (Status.FAIL, Cause.BLOCKED_TRANSPORT, 3)
    assert "UDP does not get through" in finding.sentence
    assert "Use turns:a.test:5349?transport=tcp" in finding.next_step


def test_a_blocked_transport_is_a_warning_where_the_other_is_configured_too() -> None:
    blocked, works, _ = judged({UDP: RelayTimeout, TCP: OK}, UDP, TCP)
    assert short(blocked) == (Status.WARN, Cause.BLOCKED_TRANSPORT, 0)
    assert works.status is Status.OK


def test_a_transport_that_works_elsewhere_is_not_blocked_here() -> None:
    for elsewhere in (OK, RelayRefusedCredentials):
        finding = judged({UDP: RelayTimeout, TCP: OK, OTHER: elsewhere}, UDP, OTHER)[0]
        assert short(finding) == (Status.FAIL, Cause.RELAY, 3)
        assert "gets through to another relay" in finding.next_step
    finding = judged({UDP: RelayTimeout, TCP: OK, OTHER: RelayTimeout}, UDP, OTHER)[0]
    assert finding.cause is Cause.BLOCKED_TRANSPORT


def test_broken_relay() -> None:
    for error in (RelayTimeout, RelayRefused):
        finding = judged({UDP: RelayTimeout, TCP: RelayTimeout, TLS: error})[0]
        assert short(finding) == (Status.FAIL, Cause.RELAY, 3)
        assert "No relay answers there by UDP, TCP or TLS" in finding.next_step
    finding = judged({UDP: RelayRefusedCredentials, TCP: OK})[0]
    assert short(finding) == (Status.FAIL, Cause.RELAY, 3)
    assert "refused the user name or password" in finding.sentence
    finding = judged({UDP: RelayRefused, TCP: OK})[0]
    assert short(finding) == (Status.FAIL, Cause.RELAY, 3)
    assert "Use turn:a.test:3478?transport=tcp" in finding.next_step
    finding = judged({UDP: RelayTimeout, TCP: RelayRefusedCredentials})[0]
    assert "turn:a.test:3478?transport=tcp says: " in finding.next_step
    assert "refused the user name" in finding.next_step
    assert short(judged({UDP: RelayLied})[0]) == (Status.FAIL, Cause.RELAY, 5)
    assert short(judged({UDP: Verdict.NO_FORWARDING})[0]) == (Status.FAIL, Cause.RELAY, 3)


def test_the_ways_to_a_relay() -> None:
    assert [way.name for way in ways_to(UDP, [UDP, OTHER])] == [
        "turn:a.test:3478?transport=udp",
        "turn:a.test:3478?transport=tcp",
        "turns:a.test:5349?transport=tcp",
    ]
    odd = RelayServer.parse("turn:a.test:80?transport=tcp", username="u", password="p", tls_name="n.test")
    secure = RelayServer.parse("turns:a.test:443")
    ways = ways_to(odd, [odd, secure])
    assert [(way.transport, way.port) for way in ways] == [("udp", 80), ("tcp", 80), ("tls", 443)]
    assert {(way.username, way.tls_name) for way in ways} == {("u", "n.test")}


async def test_a_relay_is_tried_by_all_transports_and_nothing_stays_allocated() -> None:
    async with Relay(host="127.0.0.1", users={"u": "p"}, laboratory=True) as relay:
        configured = [RelayServer.parse(relay.uri(way), username="u", password="p") for way in ("udp", "tcp")]
        reached = await reach(configured[:1], online=False, laboratory=True)
        assert reached.online
        assert reached.results[configured[0]].usable
        assert {way.transport for way in reached.results} == {"udp", "tcp", "tls"}
        assert relay.active == 0


# --- names and routes ------------------------------------------------------------------------------------------------


async def names_found(monkeypatch: pytest.MonkeyPatch, **answers: int | float) -> dict[str, Finding]:
    """What is found where looking up a name gives an error of this number, takes this many seconds, or works (0)."""

    async def getaddrinfo(host: str, port: int) -> Any:
        answer = answers[host]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        elif answer:
            raise socket.gaierror(answer, "canary")
        return [
            (socket.AF_INET, None, 0, "", ("192.0.2.1", port)),
            (socket.AF_INET6, None, 0, "", ("2001:db8::1", port)),
        ]

    monkeypatch.setattr(network.names, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(network, "NAMES_TIMEOUT", 0.05)
    relays = [RelayServer.parse(f"turn:{host}") for host in [*answers, "192.0.2.7", *answers]]
    return {finding.check: finding for finding in await network.check_names(relays)}


async def test_a_name_that_is_unknown_is_not_the_networks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await names_found(monkeypatch, good=0, bad=socket.EAI_NONAME)
    assert found["dns good"] == Finding("dns good", Status.OK, "The name has addresses: IPv4 and IPv6.")
    assert short(found["dns bad"]) == (Status.FAIL, Cause.RELAY, 3)
    assert list(found) == ["dns good", "dns bad"]


async def test_no_resolver_is_the_networks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await names_found(monkeypatch, one=socket.EAI_AGAIN, other=9.0)
    assert [short(finding) for finding in found.values()] == [(Status.FAIL, Cause.LOCAL_NETWORK, 3)] * 2


async def test_one_of_several_names_that_hangs_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await names_found(monkeypatch, one=0, other=9.0)
    assert short(found["dns other"]) == (Status.FAIL, Cause.RELAY, 3)


def test_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_ELSEWHERE", [(socket.AF_INET, ("127.0.0.1", 9))])
    assert network.check_route() == Finding("route", Status.OK, "There is a route for IPv4.")
    monkeypatch.setattr(network, "_ELSEWHERE", [])
    assert short(network.check_route()) == (Status.WARN, Cause.LOCAL_NETWORK, 0)


# --- this machine ----------------------------------------------------------------------------------------------------


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = machine.check_versions()
    assert finding.status is Status.OK
    for name in ("Python 3.", "aiortc 1.16.", "av ", "cryptography "):
        assert name in finding.sentence
    monkeypatch.setattr(machine, "version", lambda name: "2.0.0")
    assert short(machine.check_versions()) == (Status.WARN, Cause.INSTALLATION, 0)

    def version(name: str) -> str:
        if name == "av":
            raise machine.PackageNotFoundError
        return "1.16.0"

    monkeypatch.setattr(machine, "version", version)
    finding = machine.check_versions()
    assert short(finding) == (Status.FAIL, Cause.INSTALLATION, 6)
    assert finding.sentence.startswith("av cannot be found")


def test_both_openssls(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = machine.check_openssl()
    assert ssl.OPENSSL_VERSION in finding.sentence
    assert finding.sentence.count("OpenSSL") == 2
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (1, 1, 1, 23, 15))
    assert short(machine.check_openssl()) == (Status.WARN, Cause.INSTALLATION, 0)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.backends.openssl.backend", None)
    assert short(machine.check_openssl()) == (Status.FAIL, Cause.INSTALLATION, 6)


@pytest.mark.parametrize(
    ("error", "needed", "expected"),
    [
        (StoreUnavailable, True, (Status.FAIL, Cause.STORE, 6)),
        (StoreUnavailable, False, (Status.OK, Cause.NONE, 0)),
        (StoreLocked, True, (Status.FAIL, Cause.STORE, 6)),
        (StoreLocked, False, (Status.WARN, Cause.STORE, 0)),
    ],
)
async def test_the_store(error: type[Exception], needed: bool, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_store() -> Any:
        raise error

    monkeypatch.setattr(machine, "open_store", open_store)
    login = {"username": "u", "credential": "keyring:work"} if needed else {}
    finding, store = await machine.check_store(Settings.load(relays=["turn:a.test"], **login))
    assert short(finding) == expected
    assert store is None


async def test_a_store_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAYCALL_VAULT_PASSPHRASE", "x")
    finding, store = await machine.check_store(None)
    assert finding.status is Status.OK
    assert store is not None


@pytest.fixture
async def endpoint() -> Any:
    """An HTTP server that gives relays, and its Date; with what it was asked for."""
    asked: list[tuple[str, str]] = []
    state = {"offset": 0.0, "asked": asked}

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.append((request.method, request.path_qs))
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + state["offset"]))
        headers = {"Date": date} if state["offset"] != float("inf") else {"Date": "canary"}
        entry = {"urls": "turn:127.0.0.1:9", "username": "u", "credential": "c"}
        return aiohttp.web.json_response({"iceServers": [entry]}, headers=headers)

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    state["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}/canary-key?canary"
    yield state
    await runner.cleanup()


@pytest.mark.parametrize(
    ("offset", "expected", "said"),
    [
        (0, (Status.OK, Cause.NONE, 0), "right"),
        (60, (Status.WARN, Cause.CLOCK, 0), "s behind"),
        (-3600, (Status.FAIL, Cause.CLOCK, 6), "s ahead"),
    ],
)
async def test_the_clock(offset: float, expected: Any, said: str, endpoint: Any, tmp_path: Path) -> None:
    endpoint["offset"] = offset
    (tmp_path / "a.toml").write_text(f"endpoints = [{{url = '{endpoint['url']}'}}]")
    finding = await machine.check_clock(Settings.load(file=tmp_path / "a.toml", laboratory=True))
    assert short(finding) == expected
    assert said in finding.sentence
    assert endpoint["asked"] == [("HEAD", "/")]  # its path may hold a key


async def test_a_clock_that_cannot_be_checked(endpoint: Any, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"endpoints = [{{url = '{endpoint['url']}'}}]")
    for settings in (None, Settings(), Settings.load(file=tmp_path / "a.toml")):  # http is for laboratories
        assert "Not checked" in (await machine.check_clock(settings)).sentence
    assert endpoint["asked"] == []
    (tmp_path / "b.toml").write_text("endpoints = [{url = 'env:NONE_OF_TEST'}]")
    assert "Not checked" in (await machine.check_clock(Settings.load(file=tmp_path / "b.toml"))).sentence


# --- the whole -------------------------------------------------------------------------------------------------------


async def test_the_relays_of_an_endpoint_are_looked_at(endpoint: Any, tmp_path: Path) -> None:
    text = "relays = [{urls = 'turn:127.0.0.1:9', username = 'u', credential = 'env:NONE_OF_TEST'}]\n"
    (tmp_path / "a.toml").write_text(text + f"endpoints = [{{url = '{endpoint['url']}'}}]")
    steps: list[str] = []
    found = {one.check: one for one in await diagnose(file=tmp_path / "a.toml", laboratory=True, on_step=steps.append)}
    assert list(found)[:6] == ["versions", "openssl", "configuration", "keyring", "clock", "route"]
    assert short(found["credentials of turn:127.0.0.1:9"]) == (Status.FAIL, Cause.CONFIGURATION, 2)
    assert short(found["relay turn:127.0.0.1:9?transport=udp"]) == (Status.FAIL, Cause.RELAY, 3)
    assert steps[0] == "this machine"
    assert "turn:127.0.0.1:9?transport=tcp: relay_refused" in steps
    assert "canary" not in f"{found} {steps}"


async def test_a_configuration_that_is_wrong_does_not_end_it(tmp_path: Path) -> None:
    found = await diagnose(file=tmp_path / "none.toml")
    assert [finding.check for finding in found if finding.status is Status.FAIL] == ["configuration"]
    assert found[-1].check == "route"


async def test_no_relay_is_configured() -> None:
    assert short((await diagnose())[-1]) == (Status.FAIL, Cause.CONFIGURATION, 2)
