"""A signaling server and a relay within a program of your own, for as long as it runs.

Without arguments both are on loopback, and a call is placed over them. For real, on a machine whose address is ADDRESS,
and whose name NAME has this certificate; relays for many are better run with coturn (docs/relay.md):

    python examples/embedded_servers.py ADDRESS NAME FULLCHAIN-PEM KEY-PEM PASSWORD-FILE
"""

import asyncio
import ssl
import sys
import time
from pathlib import Path

from relaycall import MemoryStore, Phone, Relay, RelaycallError, RelayServer, SignalingServer, SilenceSource, ToneSource

USER = "relay-user"


async def real(address: str, name: str, certificate: ssl.SSLContext, password: str) -> None:
    users = {USER: password}
    async with (
        SignalingServer(host=address, port=443, ssl_context=certificate, names=[name]) as server,
        Relay(host=address, udp_port=3478, tcp_port=None, tls_port=5349, ssl_context=certificate, users=users) as relay,
    ):
        print(f"For phones: wss://{name} and turns:{name}:5349, with the user {USER} and the password in the file.")
        while True:
            await asyncio.sleep(60)
            print(server.connections, "connections,", relay.active, "allocations")


async def offline() -> None:
    async with SignalingServer() as server, Relay(users={USER: "password"}, laboratory=True) as relay:
        print("Signaling is at", server.url(), "and the relay at", relay.uri())
        here = {
            "signaling": server.url(),
            "relays": [RelayServer.parse(relay.uri(), username=USER, password="password")],
            "laboratory": True,  # since they are on loopback
        }
        async with (
            Phone(name="Alice", store=MemoryStore(), **here) as alice,
            Phone(name="Bob", store=MemoryStore(), **here) as bob,
        ):
            await bob.contacts.add(alice.card, time.time())
            bob.on("incoming", lambda ring: ring.accept(audio=SilenceSource()))
            async with await alice.call(bob.card, audio=ToneSource(440)) as call:
                if await call.connected():
                    await asyncio.sleep(1)
                    print(server.connections, "connections,", relay.active, "allocations")
            print("It is over:", (await call.ended()).reason)


try:
    match sys.argv[1:]:
        case []:
            asyncio.run(offline())
        case [address, name, chain, key, password_file]:
            certificate = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            certificate.load_cert_chain(chain, key)
            asyncio.run(real(address, name, certificate, Path(password_file).read_text().strip()))
        case _:
            sys.exit(__doc__)
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
