"""The witness must see a socket that goes elsewhere, or the demo proves nothing."""

from __future__ import annotations

import asyncio
import socket

from relaycall.cli import witness


async def test_every_way_of_sending_is_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        port = target.getsockname()[1]
        with witness.watched("sends"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", port))
        with witness.watched("connects"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
        with witness.watched("sends messages"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendmsg([b"x"], [], 0, ("127.0.0.1", port))
    for party in ("sends", "connects", "sends messages"):
        assert witness.destinations(party) == [f"127.0.0.1:{port}"]


async def test_tasks_and_callbacks_started_inside_are_seen_and_others_are_not() -> None:
    async def send_later(sock: socket.socket, port: int) -> None:
        await asyncio.sleep(0.01)
        sock.sendto(b"x", ("127.0.0.1", port))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with witness.watched("task"):
            inside = asyncio.create_task(send_later(sock, 40001))
            asyncio.get_running_loop().call_soon(sock.sendto, b"x", ("127.0.0.1", 40002))
        outside = asyncio.create_task(send_later(sock, 40003))
        await asyncio.gather(inside, outside)
    assert witness.destinations("task") == ["127.0.0.1:40001", "127.0.0.1:40002"]


async def test_names_are_noted_and_literals_are_not() -> None:
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("127.0.0.1", 1)
    await loop.getaddrinfo("localhost", 1)
    assert "localhost" in witness.names_looked_up()
    assert "127.0.0.1" not in witness.names_looked_up()
