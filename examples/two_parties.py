"""Two parties in one process: Alice says something, Bob records it.

Run it without arguments to use two embedded relays, or with a relay of yours:

    python examples/two_parties.py turn:relay.example.org:3478 USER PASSWORD-FILE
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from relaycall import (
    AudioCall,
    FileSink,
    FileSource,
    MemorySignaling,
    Relay,
    RelaycallError,
    RelayServer,
    SilenceSource,
)

CLIP = Path(__file__).with_name("speech.ogg")
SECONDS = 3


async def alice(relays: list[RelayServer], signaling: MemorySignaling, mine: bytes, bobs: bytes, lab: bool) -> None:
    async with AudioCall(relays, caller=True, source=FileSource(CLIP), laboratory=lab) as call:
        await signaling.send(bobs, await call.prepare())
        await call.connect(await signaling.receive(mine, timeout=10))
        await asyncio.sleep(SECONDS)


async def bob(relays: list[RelayServer], signaling: MemorySignaling, mine: bytes, alices: bytes, lab: bool) -> None:
    sink = FileSink("heard.wav")
    async with AudioCall(relays, caller=False, source=SilenceSource(), sink=sink, laboratory=lab) as call:
        await signaling.send(alices, await call.prepare())
        await call.connect(await signaling.receive(mine, timeout=10))
        await asyncio.sleep(SECONDS)
        print("Bob received", call.session.frames_received, "frames; they are in heard.wav")


async def main(uri: str = "", user: str = "", password: str = "") -> None:
    async with contextlib.AsyncExitStack() as stack:
        if uri:
            relays = [RelayServer.parse(uri, username=user, password=password)]
        else:
            started = [await stack.enter_async_context(Relay(users={"try": "me"}, laboratory=True)) for _ in range(2)]
            relays = [RelayServer.parse(relay.uri("udp"), username="try", password="me") for relay in started]
        lab = not uri  # the embedded relays are on loopback
        signaling = MemorySignaling()
        alices, bobs = signaling.open_mailbox(), signaling.open_mailbox()
        await asyncio.gather(
            alice(relays, signaling, alices, bobs, lab),
            bob(relays, signaling, bobs, alices, lab),
        )


try:
    if len(sys.argv) == 4:
        asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().strip()))
    else:
        asyncio.run(main())
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
