"""A relay-only call with aiortc's own objects: two peer connections, sound and a data channel, two relays.

The two are in one process and the relays are embedded, so it runs offline. In an app of yours the two descriptions
travel by your signaling, and the relays are yours:

    RelayPeerConnection(relays=[RelayServer.parse("turns:relay.example.org", username="...", password="...")])
"""

import asyncio
import sys

from aiortc import RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

from relaycall import PathSelected, Relay, RelaycallError, RelayPeerConnection, RelayServer, check_relay_only


async def call(relays: list[RelayServer]) -> None:
    alice, bob = (RelayPeerConnection(relays=relays, laboratory=True) for _ in range(2))
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @alice.on("relay")
    def show(event: object) -> None:
        if isinstance(event, PathSelected):
            print("Alice sends through", event.relay)

    @bob.on("datachannel")
    def opened(channel) -> None:
        channel.on("message", lambda message: channel.send(f"Bob heard: {message}"))

    @bob.on("track")
    def heard(track) -> None:
        print("Bob hears", track.kind)

    try:
        alice.addTrack(AudioStreamTrack())
        channel = alice.createDataChannel("chat")
        channel.on("open", lambda: channel.send("hello"))
        channel.on("message", answered.set_result)

        await alice.setLocalDescription(await alice.createOffer())  # NoRelay, if no relay can be used
        offer = alice.localDescription
        check_relay_only(offer.sdp, laboratory=True)  # nothing else is in it

        await bob.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))  # SdpRefused, if anything else is
        await bob.setLocalDescription(await bob.createAnswer())
        await alice.setRemoteDescription(bob.localDescription)

        async with asyncio.timeout(10):
            print(await answered)
        for path in alice.connection.path_stats():
            print("in use:" if path.selected else "kept warm:", path.relay, "to Bob's relay number", path.remote)
    finally:
        await asyncio.gather(alice.close(), bob.close())


async def main() -> None:
    async with Relay(users={"try": "me"}, laboratory=True) as a, Relay(users={"try": "me"}, laboratory=True) as b:
        await call([RelayServer.parse(relay.uri("udp"), username="try", password="me") for relay in (a, b)])


try:
    asyncio.run(main())
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
