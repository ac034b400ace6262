"""At which rate a running call sends: the adaptation at work, with a clock, and encoders for video and voice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from relaycall.media.control_stream import CONTROL_PAYLOAD_SIZE
from relaycall.media.session import AudioSession
from relaycall.media.video.fates import Fate
from relaycall.media.video.sender import VideoSender
from relaycall.quality.adaptation import Adaptation, AudioAdapted, VideoAdapted
from relaycall.quality.ladder import LOWER_HEADERS, SRTP_HEADERS, Limits
from relaycall.quality.sample import PeerReport

Adapted = VideoAdapted | AudioAdapted

CONTROL_WIRE_SIZE = CONTROL_PAYLOAD_SIZE + SRTP_HEADERS + LOWER_HEADERS  # bytes; RTCP takes about as much


class Steering:
    """The adaptation of one call.

    Args:
        session: its audio.
        limits: what may be used.
        on_event: called with each `VideoAdapted` and `AudioAdapted`.

    Attributes:
        sender: of its video; None while there is none to be sent.
    """

    def __init__(self, session: AudioSession, limits: Limits, on_event: Callable[[Adapted], None]) -> None:
        self.sender: VideoSender | None = None
        self._session = session
        self._adaptation = Adaptation(limits)
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._counted = (self._loop.time(), 0)  # when, and packets until then

    @property
    def available(self) -> int | None:
        """What the path carries in our direction, in bit/s on the wire; None while unknown."""
        return self._adaptation.estimator.available

    def source(self, size: tuple[int, int] | None) -> None:
        """There are pictures of this width and height to be sent, or none."""
        self._adaptation.set_source(self._loop.time(), size)
        self._carry_out()

    def sent(self, size: int) -> None:
        """A video packet of so many bytes left."""
        self._adaptation.sent(self._loop.time(), size)

    def fates(self, fates: Sequence[Fate]) -> None:
        """What became of video packets."""
        self._adaptation.fates(self._loop.time(), fates)
        self._carry_out()

    def report(self, now: float, report: PeerReport) -> None:
        """What the peer gets of ours."""
        self._adaptation.sent_besides(self._besides(now))
        self._adaptation.report(now, report)
        self._carry_out()

    def _besides(self, now: float) -> float:
        """What was sent since the last time that is neither video nor voice, in bit/s on the wire."""
        counters = self._session.transport.counters
        (since, before), self._counted = self._counted, (now, counters.control_sent + counters.rtcp_sent)
        return 8 * CONTROL_WIRE_SIZE * (self._counted[1] - before) / max(now - since, 1.0)

    def encoding_takes(self, share: float) -> None:
        """What the encoder needs, of the time it has for a frame."""
        self._adaptation.encoder_overrun(self._loop.time(), share)
        self._carry_out()

    def path_changed(self) -> None:
        """Packets go another way."""
        self._adaptation.path_changed(self._loop.time())
        self._carry_out()

    def peer_limit(self, limit: int | None) -> None:
        """The other side wants no more than so many bit/s."""
        if limit != self._adaptation.limits.receive_limit:
            limits = replace(self._adaptation.limits, receive_limit=limit)
            self._adaptation.set_limits(self._loop.time(), limits)
            self._carry_out()

    def close(self) -> None:
        """Decide nothing more, and show nothing more. May be called twice."""
        self._closed = True
        if self.sender is not None:
            self.sender.encoding = None
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._adaptation.handle_timeout(self._loop.time())
        self._carry_out()

    def _carry_out(self) -> None:
        if self._closed:
            return
        adaptation = self._adaptation
        if self.sender is not None:
            self.sender.encoding = adaptation.encoding
            self.sender.held = adaptation.held
        for decision in adaptation.take_decisions():
            if isinstance(decision, AudioAdapted):
                self._session.set_encoding(decision.bitrate, decision.expected_loss)
            self._on_event(decision)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = adaptation.next_timeout()
        if at < float("inf"):
            self._timer = self._loop.call_at(at, self._due)


def told(decision: Adapted) -> tuple[str, str]:
    """Of what kind a decision is, and what it says, for a report."""
    if isinstance(decision, AudioAdapted):
        return "audio", f"voice at {decision.bitrate // 1000} kbit/s, for {decision.expected_loss:.0%} loss"
    if decision.encoding is None:
        return "video", f"video off: {decision.reason}"
    step = decision.encoding
    return "video", f"video {step.height} rows, {step.frame_rate}/s, {step.bitrate // 1000} kbit/s: {decision.reason}"
