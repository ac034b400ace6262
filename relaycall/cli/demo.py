"""`relaycall demo`: a relay-only call on this machine, checked and explained."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import click

from relaycall.call.call import Call
from relaycall.call.events import CallEvent, RelayChanged
from relaycall.call.media_call import REPORT_AFTER
from relaycall.call.phone import Phone
from relaycall.call.ring import Ring
from relaycall.call.state import CallState, EndReason
from relaycall.cli import witness
from relaycall.cli.demo_relays import HOST, DemoRelays
from relaycall.cli.demo_report import PARTIES, Network, Reporter, SetUp, Summary, audio_of, reporter_for
from relaycall.cli.demo_video import Unseen
from relaycall.cli.page_file import check_page, write_page
from relaycall.cli.similarity import similarity
from relaycall.errors import CallClosed, ConfigError, NoPath, RelaycallError
from relaycall.ice.events import NoBackup, RelayGone, RelaySuspected
from relaycall.ice.sockets import resolve
from relaycall.media.audio import SilenceSource
from relaycall.media.files import FileSink, FileSource
from relaycall.media.video.sources import TestPattern
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from relaycall.server.signaling import SignalingServer
from relaycall.store.memory import MemoryStore
from relaycall.stun.address import Address
from relaycall.testing.profiles import PROFILES, Profile, profile

TAIL = 0.5  # seconds listened on after the speech, for what is still on its way
REPORTED = REPORT_AFTER + 0.6  # seconds after the end of a relay: by then the call has said what it cost
TO_MOVE = 3  # round trips that a move may take in a slow network
EVENTS = ("relay_suspected", "no_backup", "relay_gone", "relay_changed")


@click.command()
@click.option(
    "--audio", type=click.Path(path_type=Path), help="What Alice says: any audio file. Default: a short clip."
)
@click.option("--seconds", type=click.FloatRange(0.5, 3600), help="End the call after this long.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("relaycall-demo.wav"),
    show_default=True,
    help="Where to record what Bob hears: .wav, .ogg or .opus.",
)
@click.option(
    "--transport",
    type=click.Choice(["udp", "tcp", "tls"]),
    default="udp",
    show_default=True,
    help="How the parties reach the embedded relays.",
)
@click.option("--relay", "relays", multiple=True, metavar="URL", help="Use this relay instead; give it twice for two.")
@click.option("--user", "users", multiple=True, help="User name for the --relay at the same place.")
@click.option(
    "--credential-file",
    "credentials",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File with the password for the --relay at the same place.",
)
@click.option("--laboratory", is_flag=True, help="Allow given relays on loopback or private addresses.")
@click.option("--no-kill", is_flag=True, help="Leave the embedded relays alive. Else the one in use dies halfway.")
@click.option("--protect", is_flag=True, help="Send the audio over two paths all the time.")
@click.option("--network", type=click.Choice([*PROFILES]), help="Put Alice into an emulated network that is bad.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what happens in that network.")
@click.option("--video", is_flag=True, help="Both show a test pattern, too.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the page of Alice's call here: .html.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")  # fmt: skip
def demo(
    audio: Path | None,
    seconds: float | None,
    out: Path,
    transport: str,
    relays: tuple[str, ...],
    users: tuple[str, ...],
    credentials: tuple[Path, ...],
    laboratory: bool,
    no_kill: bool,
    protect: bool,
    network: str | None,
    seed: int,
    video: bool,
    report: Path | None,
    as_json: bool,
) -> int:
    """Place a sealed, relay-only call between two parties in this process, and show what happened.

    Alice speaks, Bob listens and records. A signaling server is started for it and, without --relay, three embedded
    relays; the one that carries the call is killed halfway. Their keys and contacts are gone with the process. With
    --network all that passes between Alice and her relays is delayed, queued and lost as it would be in such a network;
    with --video and --report the page shows how the video gave way.
    """
    reporter = reporter_for(as_json)
    try:
        given = given_relays(relays, users, credentials)
        if given and network:
            raise ConfigError("A --network is for the embedded relays.", "Leave out --relay, or --network.")
        if report is not None:
            check_page(report)
        clip = audio or default_clip()
        with (
            contextlib.closing(FileSource(clip)) as source,
            contextlib.closing(FileSink(out)) as sink,
        ):
            wanted = _Wanted(
                given=given,
                transport=transport,
                laboratory=laboratory or not given,
                seconds=seconds,
                out=out,
                kills=not (given or no_kill),
                protect=protect,
                network=profile(network) if network else None,
                seed=seed,
                video=video,
                report=report,
            )
            call = _Demo(wanted, source, sink, reporter)
            summary = asyncio.run(call.run())
        summary.similarity = similarity(str(clip), str(out))
    except RelaycallError as error:
        reporter.failed(error)
        return error.exit_code
    reporter.summary(summary)
    return summary.exit_code


def default_clip() -> Path:
    """The speech clip: inside an installed package, or in the examples of a source tree."""
    packed = Path(str(resources.files("relaycall.cli"))) / "speech.ogg"
    return packed if packed.exists() else Path(__file__).parents[2] / "examples" / "speech.ogg"


def given_relays(uris: tuple[str, ...], users: tuple[str, ...], files: tuple[Path, ...]) -> list[RelayServer]:
    """The relays of the command line. Raises ConfigError."""
    if not (len(uris) == len(users) == len(files)):
        raise ConfigError(
            "Each --relay needs its own --user and --credential-file.", "Give all three, in the same order."
        )
    return [
        RelayServer.parse(uri, username=user, password=_read_secret(path))
        for uri, user, path in zip(uris, users, files, strict=True)
    ]


def _read_secret(path: Path) -> Secret:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"The credential file {path} cannot be read.", "It holds the password as one line.") from None
    if not text:
        raise ConfigError(f"The credential file {path} is empty.", "It holds the password as one line.")
    return Secret(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What was asked for, by the options' names."""

    given: list[RelayServer]
    transport: str
    laboratory: bool
    seconds: float | None
    out: Path
    kills: bool
    protect: bool
    network: Profile | None
    seed: int
    video: bool
    report: Path | None


class _Demo:
    """One run."""

    def __init__(self, wanted: _Wanted, source: FileSource, sink: FileSink, reporter: Reporter) -> None:
        self._wanted = wanted
        self._source = source
        self._sink = sink
        self._reporter = reporter
        self._kills = wanted.kills
        self._incoming: Call | None = None
        self._answered_at = float("inf")
        self._heard: list[RelayChanged] = []
        self._killed_at = float("-inf")

    async def run(self) -> Summary:
        """Relays, signaling, two phones, a call, speech, and what came of it."""
        async with (
            self._relays() as relays,
            SignalingServer(host=HOST) as server,
            self._phone("alice", server, relays.servers_of_alice) as alice,
            self._phone("bob", server, relays.servers[::-1]) as bob,
        ):
            relay_addresses = {
                Address(str(at[0]), int(str(at[1]))).text()
                for relay in (*relays.servers, *relays.servers_of_alice)
                for _, at in await resolve(relay)
            }
            await alice.contacts.add(bob.card, time.time())
            await bob.contacts.add(alice.card, time.time())
            outgoing, incoming, set_up = await self._set_up(alice, bob)
            await self._speak(outgoing, relays)
            out, laboratory, video = str(self._wanted.out), self._wanted.laboratory, self._wanted.video
            summary = Summary.of(outgoing, incoming, set_up, out, laboratory, self._heard, video=video)
            if self._wanted.network is not None:
                lost_up, lost_down = relays.link.lost("up"), relays.link.lost("down")
                summary.network = Network(self._wanted.network.name, self._wanted.seed, lost_up, lost_down)
            await outgoing.hang_up()
            if self._wanted.report is not None:
                self._report(self._wanted.report, outgoing)
        summary.signaling = Address(HOST, server.port).text()
        summary.destinations = {party: witness.destinations(party) for party in PARTIES}
        summary.names_looked_up = witness.names_looked_up()
        summary.judge({*relay_addresses, summary.signaling}, self._sink.error)
        return summary

    def _report(self, page: Path, call: Call) -> None:
        try:
            write_page(page, call.report().html())
        except ConfigError as error:
            text = f"{error.sentence} {error.next_step}"
            self._reporter.step("report_failed", text, code=error.code, sentence=error.sentence)
        else:
            self._reporter.step("report", f"The report of Alice's call is in {page}.", path=str(page))

    @asynccontextmanager
    async def _phone(self, party: str, server: SignalingServer, relays: list[RelayServer]) -> AsyncIterator[Phone]:
        """Open for as long as the call lasts; what it does is watched to its end."""
        phone = Phone(
            signaling=server.url(),
            relays=relays,
            name=party.capitalize(),
            store=MemoryStore(),
            prewarm=False,
            protect=self._wanted.protect,
            laboratory=self._wanted.laboratory,
        )
        with witness.watched(party):
            await phone.__aenter__()
        try:
            yield phone
        finally:
            with witness.watched(party):
                await phone.close()

    @asynccontextmanager
    async def _relays(self) -> AsyncIterator[DemoRelays]:
        """The given relays, or three embedded ones for as long as the call lasts; Alice's behind her network."""
        relays = DemoRelays(self._wanted.given)
        async with contextlib.AsyncExitStack() as stack:
            if not self._wanted.given:
                names = await stack.enter_async_context(relays.embedded(self._wanted.transport))
                self._reporter.step("relays_started", f"Three relays are running: {', '.join(names)}", relays=names)
            if self._wanted.network is not None:
                await stack.enter_async_context(relays.behind(self._wanted.network, self._wanted.seed))
                text = f"Alice is in a network. {self._wanted.network.about}"
                self._reporter.step("network", text, profile=self._wanted.network.name, seed=self._wanted.seed)
            yield relays

    async def _set_up(self, alice: Phone, bob: Phone) -> tuple[Call, Call, SetUp]:
        """Alice calls, and both are connected. Raises why they are not."""
        bob.on("incoming", self._answer)
        placed_at = time.perf_counter()
        with witness.watched("alice"):
            outgoing = await alice.call("Bob", audio=self._source, **self._video())
        self._follow("alice", outgoing)
        connected = await outgoing.connected()
        incoming = self._incoming
        if incoming is None or not connected or not await incoming.connected():
            raise await _why(outgoing, incoming)
        now = time.perf_counter()
        set_up = SetUp(round((now - placed_at) * 1000, 1), round((now - self._answered_at) * 1000, 1))
        self._reporter.step(
            "connected",
            f"Connected in {set_up.sealed_ms:.0f} ms.",
            setup_ms=set_up.ms,
            sealed_setup_ms=set_up.sealed_ms,
        )
        return outgoing, incoming, set_up

    def _answer(self, ring: Ring) -> None:
        """Bob takes the call at once. To tell comes last: nobody may be reading, which is noticed elsewhere."""
        self._incoming = ring.accept(audio=SilenceSource(), sink=self._sink, **self._video())
        self._incoming.on("state", self._answered)
        self._follow("bob", self._incoming)
        self._reporter.step("ringing", "It rings at Bob, who accepts.")

    def _video(self) -> dict[str, Any]:
        """What either side shows and where it sees, if they do."""
        return {"video": TestPattern(1280, 720, 30), "video_sink": Unseen()} if self._wanted.video else {}

    def _answered(self, state: CallState) -> None:
        if state is CallState.CONNECTING:
            self._answered_at = time.perf_counter()
            self._reporter.step("allocated", "Both parties hold addresses on relays.")

    def _follow(self, party: str, call: Call) -> None:
        for event in EVENTS:
            call.on(event, partial(self._happened, party))

    async def _speak(self, alice: Call, relays: DemoRelays) -> None:
        """Let the source play, to its end or for the seconds asked for, then listen a moment longer."""
        session = audio_of(alice).session
        assert session is not None
        start = time.monotonic()
        length = self._wanted.seconds or self._source.duration
        ended = asyncio.ensure_future(alice.ended())
        try:
            while not session.finished.is_set() and not ended.done():
                spoken = time.monotonic() - start
                if self._wanted.seconds is not None and spoken >= self._wanted.seconds:
                    break
                self._reporter.progress(spoken, length)
                if self._kills and length is not None and spoken >= length / 2:
                    self._kills = False
                    await self._kill(alice, relays)
                await asyncio.wait([ended], timeout=0.1)
            if ended.done() and (error := ended.result().error) is not None:
                raise error
            if session.source_error is not None:
                raise session.source_error
            round_trip = self._wanted.network.round_trip if self._wanted.network else 0.0
            reported_at = self._killed_at + REPORTED + TO_MOVE * round_trip
            await asyncio.sleep(max(TAIL + round_trip, reported_at - time.monotonic()))
        finally:
            ended.cancel()

    async def _kill(self, alice: Call, relays: DemoRelays) -> None:
        """End the relay that carries the call, as a crash would."""
        used = audio_of(alice).connection.path_stats()[0].relay
        self._reporter.step("relay_killed", f"The relay {used} is killed.", relay=used)
        self._killed_at = time.monotonic()
        await relays.kill(used)

    def _happened(self, party: str, event: CallEvent) -> None:
        if isinstance(event, RelaySuspected):
            self._reporter.step("relay_suspected", f"{party}: nothing comes over {event.relay}.", party=party)
        elif isinstance(event, NoBackup):
            self._reporter.step("no_backup", f"{party}: there is no second path at the moment.", party=party)
        elif isinstance(event, RelayGone):
            self._reporter.step("relay_lost", f"{party}: {event.error.sentence}", party=party)
        elif isinstance(event, RelayChanged):
            if party == "bob":
                self._heard.append(event)
            where = f"moved to {event.new}" if event.new != event.old else "the other side moved"
            cost = f"{event.gap_ms:.0f} ms without a new packet, {event.lost} lost"
            self._reporter.step("relay_changed", f"{party}: {where}; {cost}.", **{"party": party, **asdict(event)})


async def _why(*calls: Call | None) -> RelaycallError:
    """Why two calls were not connected: the error of either, if there is one."""
    ends = [await call.ended() for call in calls if call is not None]
    errors = [end.error for end in ends if end.error is not None]
    if errors:
        return errors[0]
    return NoPath() if any(end.reason == EndReason.SETUP_TIMEOUT for end in ends) else CallClosed()
