"""Two phones in one process: Alice calls Bob and says something, Bob records it.

Without arguments it starts a signaling server and two relays of its own. With yours:

    python examples/two_parties.py wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from relaycall import (
    FileSink,
    FileSource,
    MemoryStore,
    Phone,
    Relay,
    RelaycallError,
    RelayServer,
    SignalingServer,
    SilenceSource,
    safety_number,
)

CLIP = Path(__file__).with_name("speech.ogg")
SECONDS = 3


async def answer(phone: Phone) -> None:
    async for ring in phone.incoming():
        print(f"{ring.party.name!r} calls Bob.")  # a contact: it is Bob's name for these keys
        call = ring.accept(audio=SilenceSource(), sink=FileSink("heard.wav"))
        call.on("spoken_words", lambda words: print("Bob reads:  ", words))
        print("Bob is told:", (await call.ended()).reason)
        return


async def place(phone: Phone) -> None:
    call = await phone.call("Bob", audio=FileSource(CLIP))
    call.on("state", lambda state: print("Alice is", state))
    if await call.connected():
        print("Alice reads:", call.spoken_words)  # the same words, if nobody is in between
        await asyncio.sleep(SECONDS)
        await call.hang_up()
    end = await call.ended()
    if end.error is not None:
        raise end.error


async def main(url: str = "", uri: str = "", user: str = "try", password: str = "me") -> None:
    async with contextlib.AsyncExitStack() as stack:
        laboratory = not url  # ours are on loopback
        if laboratory:
            url = (await stack.enter_async_context(SignalingServer())).url()
            ours = [await stack.enter_async_context(Relay(users={user: password}, laboratory=True)) for _ in range(2)]
        uris = [relay.uri("udp") for relay in ours] if laboratory else [uri]
        relays = [RelayServer.parse(uri, username=user, password=password) for uri in uris]

        # Keys in memory are gone in the end. Leave `store` out, and they are in the keyring or the vault.
        alice, bob = (
            Phone(signaling=url, relays=relays, name=name, store=MemoryStore(), laboratory=laboratory)
            for name in ("Alice", "Bob")
        )
        async with alice, bob:
            await alice.contacts.add(bob.card, time.time())  # the cards would travel as texts or QR codes
            await bob.contacts.add(alice.card, time.time())
            print("Safety number:", safety_number(alice.card.identity, bob.card.identity).digits)
            await asyncio.gather(answer(bob), place(alice))


try:
    if len(sys.argv) == 5:
        asyncio.run(main(*sys.argv[1:4], Path(sys.argv[4]).read_text().strip()))
    else:
        asyncio.run(main())
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
