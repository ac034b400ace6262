"""Answer calls: show who calls, ask whether to accept, say why each call ended.

Without arguments somebody in this process calls twice, over embedded relays, and is declined first. For real:

    python examples/answer.py wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from relaycall import Phone, RelaycallError, RelayServer, Ring, SilenceSource, Strangers, ToneSource, card_to_text
from relaycall.testing import local_pair


async def answer(phone: Phone, wanted: Callable[[Ring], Awaitable[bool]]) -> None:
    async for ring in phone.incoming():
        who = "a contact" if ring.party.contact else "a stranger, who may have any name"
        print(f"{ring.party.name!r} calls: {who}.")
        if not await wanted(ring):
            print("It was declined:", (await ring.decline()).reason)
            continue
        call = ring.accept(audio=ToneSource(440))
        call.on("spoken_words", lambda words: print("Read these to each other:", words))
        print("It is over:", (await call.ended()).reason)


async def ask(ring: Ring) -> bool:
    return (await asyncio.to_thread(input, "Accept? [y/n] ")) == "y"


async def real(url: str, relay: RelayServer) -> None:
    async with Phone(signaling=url, relays=[relay], name="Bob", strangers=Strangers.RING) as phone:
        print("Whoever has this can call me:", card_to_text(phone.card))
        await answer(phone, ask)


async def offline() -> None:
    async with local_pair() as (alice, bob):
        answers = iter([False, True])

        async def decide(ring: Ring) -> bool:
            return next(answers)

        answering = asyncio.create_task(answer(bob, decide))
        for _ in range(2):
            async with await alice.call("bob", audio=SilenceSource()) as call:
                if await call.connected():
                    await asyncio.sleep(1)
            print("Alice is told:", (await call.ended()).reason)
        await bob.close()  # this ends `incoming()`
        await answering


try:
    match sys.argv[1:]:
        case []:
            asyncio.run(offline())
        case [url, uri, user, password]:
            relay = RelayServer.parse(uri, username=user, password=Path(password).read_text().strip())
            asyncio.run(real(url, relay))
        case _:
            sys.exit(__doc__)
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
