"""What `call` and `answer` have in common: their options, the relays, the phone, the sound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from relaycall.call.ends import MIN_LIMIT
from relaycall.call.phone import CARRIED, Phone
from relaycall.cli.asking import check_terminal
from relaycall.cli.call_sound import MICROPHONE, CallSound, Failed
from relaycall.cli.call_video import CallVideo, check_video
from relaycall.cli.carrying import Carrier
from relaycall.cli.config import config_option
from relaycall.cli.demo import given_relays
from relaycall.cli.hints import changed_step
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.page_file import check_page, path_of_call
from relaycall.cli.quiet import quiet_libraries
from relaycall.cli.remote_text import shown
from relaycall.cli.screen import Screen
from relaycall.config import Settings
from relaycall.errors import ConfigError, KeyChanged, RelaycallError
from relaycall.identity.contact import Strangers, Unverified
from relaycall.identity.own import load_own
from relaycall.media.video.movie import check_movie
from relaycall.relays.configured import configured_relays
from relaycall.relays.pool import PoolEvent
from relaycall.relays.server import RelayServer
from relaycall.signaling.base import Signaling, SignalingState
from relaycall.signaling.manual import ManualTransport
from relaycall.signaling.opening import open_signaling
from relaycall.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_path = click.Path(path_type=Path)
_OPTIONS = [
    click.option("--manual", is_flag=True, help="Without a signaling server: people carry two texts."),
    click.option("--text-out", type=_path, help="With --manual: write our text to this file."),
    click.option("--text-in", type=_path, help="With --manual: take their text from this file, once it is there."),
    click.option("--qr", is_flag=True, help="Show texts as QR codes, too."),
    click.option(
        "--audio",
        default="silence",
        show_default=True,
        metavar="FILE|tone|silence|mic[:NAME]",
        help="What to send. A file is played once, and silence follows.",
    ),
    click.option(
        "--play", is_flag=False, flag_value="", metavar="[NAME]", help="Play what is heard, on a speaker of that name."
    ),
    click.option("--record", type=_path, help="Record what is heard: .wav, .ogg or .opus."),
    click.option("--video", metavar="FILE|test|camera[:NAME]", help="What to show. A file is played once."),
    click.option("--record-video", type=_path, help="Take video, and record it with the sound: .mkv, .mp4 or .webm."),
    click.option("--report", type=_path, help="Write what the call was like to this page, once it is over: .html."),
    click.option("--seconds", type=click.FloatRange(0.1, 86400), help="Hang up this long after connecting."),
    click.option("--signaling", metavar="URL", help="Have our mailbox on this server from now on."),
    click.option(
        "--relay", "relays", multiple=True, metavar="URL", help="Use this relay, and not the configured ones."
    ),
    click.option("--user", "users", multiple=True, help="User name for the --relay at the same place."),
    click.option(
        "--credential-file",
        "credentials",
        multiple=True,
        type=_path,
        help="File with the password for the --relay at the same place.",
    ),
    config_option,
    click.option("--protect", is_flag=True, help="Send the audio over two paths all the time."),
    click.option(
        "--max-bitrate",
        type=click.IntRange(MIN_LIMIT // 1000, 1_000_000),
        metavar="KBIT",
        help="Send and take no more kbit/s than this, with all headers.",
    ),
    click.option("--low-data", is_flag=True, help="As little as a call can do with: video is small, or off."),
    click.option("--laboratory", is_flag=True, help="Allow relays on private addresses, and servers without TLS."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line."),
]


def calling_options(command: F) -> F:
    """Adds the options; the command gets them as `Options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Options:
    """What was given, by the options' names."""

    manual: bool
    text_out: Path | None
    text_in: Path | None
    qr: bool
    audio: str
    play: str | None
    record: Path | None
    video: str | None
    record_video: Path | None
    report: Path | None
    seconds: float | None
    signaling: str | None
    relays: tuple[str, ...]
    users: tuple[str, ...]
    credentials: tuple[Path, ...]
    config_file: Path | None
    protect: bool
    max_bitrate: int | None
    low_data: bool
    laboratory: bool
    as_json: bool
    code: bool

    def check(self) -> None:
        """Raises ConfigError, MediaError for what is wrong, before anything is opened."""
        if not self.manual and (self.text_out or self.text_in):
            raise ConfigError("Texts are carried by hand with --manual only.", "Add it, or leave out the files.")
        if self.manual and self.signaling is not None:
            raise ConfigError("There is no server with --manual.", "Leave out --signaling.")
        if self.manual and self.text_in is None:
            check_terminal("--text-in")
        if self.manual and self.code:
            raise ConfigError("A one-time code is exchanged over a server.", "Leave out --manual, or --code.")
        if self.report is not None:
            check_page(self.report)
        if self.record_video is not None:
            check_movie(self.record_video)
        check_video(self.video)
        with self.quiet():
            CallSound(self.audio, None, self.play).close()

    def quiet(self) -> contextlib.AbstractContextManager[None]:
        """Keeps sound systems from writing to standard error, if there are devices to be used."""
        devices = self.play is not None or self.audio.partition(":")[0] == MICROPHONE
        return quiet_libraries() if devices else contextlib.nullcontext()

    def sound(self, number: int, video: CallVideo, failed: Failed | None = None) -> CallSound:
        """The sound of the call of this number, from 1. Later ones are recorded beside the first.

        Args:
            video: of that call. Its recording has the sound, too.
            failed: called with the error of what cannot be opened, and is left out; otherwise that is raised.

        Raises:
            MediaError, ConfigError: something cannot be opened.
        """
        record = self.record and path_of_call(self.record, number)
        return CallSound(self.audio, record, self.play, failed, video.sound_sink)

    def video_of(self, number: int, failed: Failed | None = None) -> CallVideo:
        """The video of the call of this number; as `sound`."""
        record = self.record_video and path_of_call(self.record_video, number)
        return CallVideo(self.video, record, failed)

    def page(self, number: int) -> Path | None:
        """Where the report of that call goes, if it is wanted."""
        return self.report and path_of_call(self.report, number)

    def signaling_for_code(self, phone: Phone) -> Signaling:
        """To our server, for the exchange of a code beside an open phone. Raises ConfigError: it has no codes."""
        return open_signaling(phone.card.signaling, laboratory=self._allows_laboratory())

    def _allows_laboratory(self) -> bool:
        if self.laboratory or self.relays:
            return self.laboratory
        return Settings.load(file=self.config_file).laboratory

    async def phone(
        self,
        store: Store,
        now: float,
        *,
        prewarm: bool,
        strangers: Strangers = Strangers.CODE,
        unverified: Unverified = Unverified.RING,
    ) -> Phone:
        """A phone as it is configured, to be opened.

        Args:
            now: seconds since 1970.

        Raises:
            ConfigError: there is no relay, or something is not usable.
            IdentityMissing, IdentityDamaged, StoreError: our keys cannot be had.
        """
        own = await load_own(store, now)
        given: list[RelayServer] = given_relays(self.relays, self.users, self.credentials)
        laboratory = self.laboratory
        if not given:
            settings = Settings.load(file=self.config_file, laboratory=self.laboratory or None)
            given, laboratory = await configured_relays(settings, store=store), settings.laboratory
        if not given:
            raise ConfigError("No relay is given, and none is configured.", "Give --relay, or configure one.")
        return Phone(
            signaling=CARRIED if self.manual else self.signaling or own.signaling,
            relays=given,
            store=store,
            strangers=strangers,
            unverified=unverified,
            prewarm=prewarm,
            protect=self.protect,
            max_bitrate=None if self.max_bitrate is None else 1000 * self.max_bitrate,
            low_data=self.low_data,
            laboratory=laboratory,
        )

    def carrier(self, phone: Phone, screen: Screen, keyboard: Keyboard, *, answered: bool) -> Carrier:
        """What carries the texts of a phone without a server."""
        transport = phone.signaling
        assert isinstance(transport, ManualTransport), "that is what manual: opens"
        carrier = Carrier(
            transport,
            screen,
            keyboard,
            text_out=self.text_out,
            text_in=self.text_in,
            qr=self.qr,
            answered=answered,
        )
        phone.on("refused", lambda _: carrier.listen())  # it was a text, and not the right one
        return carrier


class News:
    """Tells what happens to a phone beside its calls: each kind of refusal once in ten seconds, for they may be many.

    The changed keys of a contact are told once a minute: a call comes again and again while nobody answers it.

    Args:
        phone: open.
        now: gives the seconds of a clock that never goes back.
    """

    EVERY = 10.0
    EVERY_CHANGE = 60.0

    def __init__(self, phone: Phone, screen: Screen, now: Callable[[], float]) -> None:
        self._screen = screen
        self._now = now
        self._told: dict[tuple[str, str], float] = {}  # by code, and the contact whose keys have changed
        self._lost = False
        phone.on("refused", self._refused)
        phone.on("signaling", self._signaling)
        phone.on("relays", self._relays)

    def _refused(self, error: RelaycallError) -> None:
        key, every, text, step = (error.code, ""), self.EVERY, error.sentence, error.next_step
        if isinstance(error, KeyChanged):
            key, every, step = (error.code, error.name), self.EVERY_CHANGE, changed_step(error.name)
            text = f"{text} {step}"
        if self._now() - self._told.get(key, float("-inf")) < every:
            return
        self._told[key] = self._now()
        self._screen.say("refused", shown(text)[1:-1], code=error.code, sentence=error.sentence, next_step=step)

    def _signaling(self, state: SignalingState) -> None:
        lost = state is SignalingState.RECONNECTING
        if lost != self._lost and state is not SignalingState.CLOSED:
            self._lost = lost
            text = "The signaling server is lost; trying again." if lost else "The signaling server is back."
            self._screen.say("signaling", text, state=str(state))

    def _relays(self, event: PoolEvent) -> None:
        if event.error is not None:
            self._screen.say(
                "relay", event.error.sentence, relay=event.relay, code=event.error.code, sentence=event.error.sentence
            )
