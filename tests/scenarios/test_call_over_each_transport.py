"""Two phones in two processes, over each way of signaling; and over a server that dies, for a while or for good."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from relaycall.server.signaling import SignalingServer
from tests.certificates import Authority
from tests.contracts.redis_cluster import Cluster
from tests.contracts.signaling_rigs import Nginx
from tests.coturn import free_port
from tests.scenarios.calling import PASSWORD, USERNAME, embedded_relays
from tests.scenarios.programs import Program
from tests.signaling.forwarder import Forwarder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

TONES = {"alice": 440, "bob": 660}


class Pair:
    """Two programs, each with a phone that knows the other."""

    def __init__(self, alice: Program, bob: Program) -> None:
        self.alice, self.bob = alice, bob

    async def both(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        return list(await asyncio.gather(self.alice.ask(do, **arguments), self.bob.ask(do, **arguments)))

    async def call(self) -> None:
        """Alice calls, Bob answers."""
        assert await self.alice.ask("call", who="bob") == {}
        assert await self.bob.ask("answer") == {"caller": "alice"}

    async def are_connected(self) -> None:
        one, other = await self.both("connected")
        assert one == other
        assert one["connected"] is True

    async def hear_each_other(self) -> None:
        heard = await asyncio.gather(
            self.alice.ask("hear", tone=TONES["bob"]), self.bob.ask("hear", tone=TONES["alice"])
        )
        assert all(found["share"] > 0.8 for found in heard), heard

    async def hang_up(self) -> None:
        ended = await self.bob.ask("hang_up")
        assert ended["reason"] == "hung_up", ended
        assert ended["seconds"] < 2
        assert await self.alice.ask("ended") == {"reason": "peer_hung_up"}

    async def close(self) -> None:
        for closed in await self.both("close"):
            assert closed["seconds"] < 3
            assert closed["refused"] == {}


@asynccontextmanager
async def pair(
    *urls: str, ca_file: Path | None = None, before_bob: Callable[[], None] = lambda: None
) -> AsyncIterator[Pair]:
    """Both, open. With two URLs, the second is Bob's."""
    async with embedded_relays(2) as (embedded, _), AsyncExitStack() as stack:
        relays = [[relay.uri("udp"), USERNAME, PASSWORD] for relay in embedded]
        programs = []
        for (name, tone), url in zip(TONES.items(), [urls[0], urls[-1]], strict=True):
            settings: dict[str, Any] = {"name": name, "signaling": url, "relays": relays, "tone": tone}
            if ca_file is not None:
                settings["ca_file"] = str(ca_file)
            programs.append(await stack.enter_async_context(Program("phone_party", settings)))
        phones = Pair(*programs)
        cards = [await phones.alice.ask("open")]
        before_bob()
        cards.append(await phones.bob.ask("open"))
        await asyncio.gather(
            phones.alice.ask("add", card=cards[1]["card"]), phones.bob.ask("add", card=cards[0]["card"])
        )
        yield phones


async def a_whole_call(phones: Pair) -> None:
    await phones.call()
    await phones.are_connected()
    words = await phones.both("words")
    assert words[0] == words[1]
    await phones.hear_each_other()
    await phones.hang_up()
    await phones.close()


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_over_a_server(scheme: str) -> None:
    async with SignalingServer() as server, pair(server.url(scheme)) as phones:
        await a_whole_call(phones)


async def test_one_by_websocket_and_one_by_http() -> None:
    """Two ways to one server."""
    async with SignalingServer() as server, pair(server.url("ws"), server.url("http")) as phones:
        await a_whole_call(phones)


@pytest.mark.interop
@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_behind_nginx(scheme: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        SignalingServer(names=["localhost"], trusted_header="X-Forwarded-For") as server,
        Nginx(tmp_path, authority.leaf("localhost"), server.port) as nginx,
        pair(f"{scheme}://localhost:{nginx.port}", ca_file=authority.ca_file) as phones,
    ):
        await a_whole_call(phones)


@pytest.mark.interop
async def test_over_two_servers_with_one_redis() -> None:
    """What stands before the servers sends Alice to one and Bob to the other."""
    with Cluster() as cluster:
        async with Forwarder(cluster.ports[0]) as front:

            def turn() -> None:
                front.target = cluster.ports[1]

            async with pair(f"ws://localhost:{front.port}", before_bob=turn) as phones:
                await a_whole_call(phones)


async def test_by_texts_that_people_carry() -> None:
    async with pair("manual:") as phones:
        assert await phones.alice.ask("call", who="bob") == {}
        offer = (await phones.alice.ask("text"))["text"]
        assert await phones.bob.ask("paste", text=f"Alice wrote:\n\n> {offer}\n") == {}
        assert await phones.bob.ask("answer") == {"caller": "alice"}
        answer = (await phones.bob.ask("text"))["text"]
        await asyncio.sleep(2)  # people take their time
        assert await phones.alice.ask("paste", text=answer) == {}
        await phones.are_connected()
        await phones.hear_each_other()
        await phones.hang_up()
        await phones.close()


# --- a server that dies -----------------------------------------------------------------------------------------------


class Server:
    """`relaycall serve`, on one port each time."""

    def __init__(self) -> None:
        self.port = free_port("127.0.0.1")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relaycall", "serve", "--port", str(self.port), "--name", "localhost", "--json"),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline()

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()


@pytest.mark.parametrize("seconds", [0.5, 3.0])
async def test_the_server_dies_while_it_rings_and_comes_back(seconds: float) -> None:
    """All that it held is gone; set-up completes all the same."""
    async with Server() as server, pair(server.url) as phones:
        assert await phones.alice.ask("call", who="bob") == {}
        assert await phones.alice.ask("state", state="ringing") == {}
        await server.kill()
        assert await phones.bob.ask("answer") == {"caller": "alice"}  # the answer cannot be sent
        await asyncio.sleep(seconds)
        await server.start()
        await phones.are_connected()
        words = await phones.both("words")
        assert words[0] == words[1]
        await phones.hear_each_other()
        await phones.hang_up()
        for found in await phones.both("signaling"):
            assert found["states"][-2:] == ["reconnecting", "open"]
        await phones.both("close")


async def test_the_server_dies_the_moment_a_call_is_placed() -> None:
    async with Server() as server, pair(server.url) as phones:
        await server.kill()
        assert await phones.alice.ask("call", who="bob") == {}
        await asyncio.sleep(3)
        await server.start()
        assert await phones.bob.ask("answer", timeout=20) == {"caller": "alice"}
        await phones.are_connected()
        await phones.hear_each_other()
        await phones.hang_up()
        await phones.both("close")


async def test_the_server_is_gone_for_good_and_the_call_goes_on() -> None:
    async with Server() as server, pair(server.url) as phones:
        await phones.call()
        await phones.are_connected()
        await phones.both("words")
        await server.kill()
        for _ in range(10):
            await phones.hear_each_other()
        await phones.hang_up()  # in band: there is no other way
        for closed in await phones.both("close"):
            assert closed["seconds"] < 3
