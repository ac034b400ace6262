"""A call without a signaling server: two texts are carried by hand, in a chat, a mail or as QR codes.

Without arguments both sides are in this process, and each text is piped to the other. For real, each with the other's
card in a file (`relaycall keys show` prints one's own); `answer` is started first, and waits for the text of `call`:

    python examples/manual_exchange.py answer|call CARD-FILE turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

from relaycall import Card, ManualText, Phone, RelaycallError, RelayServer, TextRefused, ToneSource, card_from_text
from relaycall.testing import local_pair


async def call(phone: Phone, name: str, seconds: float) -> None:
    call = await phone.call(name, audio=ToneSource(440))
    if await call.connected():
        print("They hear each other.")
        await asyncio.sleep(seconds)
    print("The caller is told:", (await call.hang_up()).reason)


async def answer(phone: Phone) -> None:
    async for ring in phone.incoming():
        call = ring.accept(audio=ToneSource(660))
        print("The other is told: ", (await call.ended()).reason)
        return


async def show(text: ManualText) -> None:
    print(f"Have this brought to them:\n{text.text}")


async def paste(phone: Phone) -> None:
    while True:
        text = await asyncio.to_thread(input, "Paste their text:\n")
        try:
            await phone.signaling.accept(text)
            return
        except TextRefused as error:  # nothing is lost by pasting it wrongly
            print(error.sentence, error.next_step)


async def real(what: str, card: Card, relay: RelayServer) -> None:
    async with Phone(signaling="manual:", relays=[relay], name=what) as phone:
        contact = await phone.contacts.add(card, time.time())
        phone.signaling.on_text = show
        await asyncio.gather(paste(phone), call(phone, contact.name, 60) if what == "call" else answer(phone))


async def carry(to: Phone, text: ManualText) -> None:
    print(f"A text of {len(text.text)} characters is carried.")
    await to.signaling.accept(f"They wrote:\n> {text.text}\n")


async def offline() -> None:
    async with local_pair(signaling="manual:") as (alice, bob):
        alice.signaling.on_text, bob.signaling.on_text = partial(carry, bob), partial(carry, alice)
        await asyncio.gather(call(alice, "bob", 1), answer(bob))


try:
    match sys.argv[1:]:
        case []:
            asyncio.run(offline())
        case ["call" | "answer" as what, card, uri, user, password]:
            relay = RelayServer.parse(uri, username=user, password=Path(password).read_text().strip())
            asyncio.run(real(what, card_from_text(Path(card).read_text()), relay))
        case _:
            sys.exit(__doc__)
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
