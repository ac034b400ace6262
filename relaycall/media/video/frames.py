"""Packets of video in, in any order; whole frames out, in their order, and each only with all it refers to. No I/O.

How it works. A frame's packets, its *pieces*, have consecutive numbers, one timestamp, and marks on the first and the
last. A frame refers to the one before it; a keyframe refers to none. So what can be decoded is a keyframe, and from it
on one frame after the other without a number left out. The *head* is the first piece of the frame that is due, the
*reach* the first number from there on that has not come.

    state      what happens                                     then
    nothing    the first piece of a keyframe comes              starting, with it as the head
    nothing    anything else                                    a keyframe is wanted, every 500 ms at most
    starting   the keyframe is whole                            flowing: it goes out
    flowing    the next frame is whole                          it goes out
    starting,  a number will not come in time, or pieces        nothing; starting if a later keyframe has begun
    flowing    contradict each other
    starting,  a number is missing for 10 ms, and a later       flowing: the keyframe goes out, what is before it is
    flowing    keyframe is whole                                dropped

A number that is missing is asked for when two later packets or 10 ms show that it was not only overtaken, and again
after a round trip and 20 ms, 60 ms at least, as long as it can still come within a second. Where round trips are long
that would be once. So there a number may take three of them, up to 2 s, and is asked for when half of one has passed,
or 300 ms. When much is lost, questions are too: each one, and each wish for a keyframe, is sent twice, 20 ms apart.
When more is missing than one message can ask for, a keyframe is wanted as well: it may be there first.

In `nothing` only the missing pieces of a keyframe are asked for: other frames cannot be decoded. Pieces that no
keyframe has made useful in the time that a number may take are dropped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from relaycall.media.video.feedback import MAX_WANTS, Wants, unwrapped
from relaycall.media.video.format import VideoCodec
from relaycall.media.video.pieces import Piece, parse_piece

MAX_FRAME = 1 << 20  # bytes of an encoded frame
MAX_PIECES = 1024  # held at once: 1.5 MB at most
MAX_MISSING = 512  # numbers
HOLD, MAX_HOLD = 1.0, 2.0  # seconds that what is missing may take, or
HOLD_ROUND_TRIPS = 3  # within these bounds
REORDERED = 0.01  # seconds by which a packet may be overtaken; and
REORDERED_PACKETS = 2  # by how many others
AGAIN = 0.02  # seconds after a round trip, before the next question
MIN_AGAIN = 0.06  # seconds between two questions: senders do not answer sooner
LONG_RTT = 0.3  # seconds: from there on half a round trip is enough
MAX_ASKS = 12
ASK_INTERVAL = 0.02  # seconds between two messages
MUCH_LOSS = 0.05  # share of the packets
LEFT = 1 - 1 / 64  # what is left of its mean after a packet
KEYFRAME_INTERVAL = 0.5  # seconds between two wishes for a keyframe, or
KEYFRAME_TIME = 0.1  # after a round trip, if that is longer


class State(enum.Enum):
    """What is being waited for."""

    NOTHING = "nothing"  # to begin with
    STARTING = "starting"  # with a keyframe
    FLOWING = "flowing"


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A whole frame.

    Attributes:
        data: as it came from the encoder.
        timestamp: 32 bits, of a clock of 90 kHz.
        keyframe: what its packets say; `bitstream` says what it is.
        codec: of its packets.
        arrived_at: when the first packet of it came, in seconds on our clock.
    """

    data: bytes
    timestamp: int
    keyframe: bool
    codec: VideoCodec
    arrived_at: float


@dataclass(slots=True)
class _Missing:
    since: float
    newest: int  # packets in order before it was missed
    asked: int = 0
    asked_at: float = 0.0
    to_repeat: bool = False  # the latest question


class FrameBuffer:
    """The frames of one stream.

    Attributes:
        packets: taken; those that were malformed are not among them.
        malformed: packets that are none of a frame, or contradict others.
        late: pieces of frames that are out or were given up.
        lost: packets that did not come in time.
        recovered: packets that came after they had been asked for.
        frames_dropped: frames of which something came, and that did not go out.
        keyframes_wanted: wishes for one.
    """

    def __init__(self) -> None:
        self.packets = self.malformed = self.late = self.lost = self.recovered = 0
        self.frames_dropped = self.keyframes_wanted = 0
        self.state = State.NOTHING
        self._pieces: dict[int, Piece] = {}  # in the order in which they came
        self._missing: dict[int, _Missing] = {}
        self._highest: int | None = None  # number
        self._newest = 0  # packets that came in order
        self._floor = 0  # numbers below are of no use any more
        self._head = self._reach = 0
        self._size = 0  # bytes from head to reach
        self._before: Piece | None = None  # the one before the head, if it went out
        self._codec: VideoCodec | None = None  # of the frame that went out last
        self._out: list[EncodedFrame] = []
        self._arrived_at = 0.0  # of the packet that came last
        self._asked_at = self._wanted_at = -1e9  # the latest message, the latest wish
        self._wish_to_repeat = False
        self._loss = 0.0  # share of the packets that did not come before later ones

    @property
    def waiting(self) -> bool:
        """Whether something is missing: `take` and `wants` are to be called again, even if nothing comes."""
        return bool(self._missing) or self._wish_to_repeat

    def add(self, packet: bytes, now: float) -> bool:
        """Take an RTP packet with a bare header as it arrives.

        Returns:
            Whether its time of arrival says something about the path: not that of a packet that was asked for.
        """
        piece = parse_piece(packet, now)
        if piece is None:
            self.malformed += 1
            return False
        number = int.from_bytes(packet[2:4], "big")
        if self._highest is None:
            self._highest, self._floor = number - 1, number - MAX_MISSING
        number = unwrapped(number, self._highest)
        self.packets += 1
        self._arrived_at = now
        missing = self._missing.pop(number, None)
        asked = missing is not None and missing.asked > 0
        self.recovered += asked
        if missing is not None and not asked:
            self._loss = max(0.0, self._loss - (1 - LEFT))  # only overtaken
        if number > self._highest:
            self._note_missing(number, now)
        if number < self._floor or number in self._pieces:
            self.late += 1
        elif not self._fits(number, piece):
            self.malformed += 1
            self._give_up(number)
        else:
            self._keep(number, piece)
        return not asked

    def take(self, now: float, rtt: float) -> list[EncodedFrame]:
        """The frames that can be decoded, once each. What cannot come in time any more is given up.

        Args:
            now: seconds.
            rtt: the time of a question and its answer, in seconds.
        """
        for number in [number for number, missing in self._missing.items() if _is_hopeless(missing, now, rtt)]:
            if self.state is not State.NOTHING and number >= self._head:
                self._give_up(number)
            elif self._missing.pop(number, None):
                self.lost += 1
        if self.state is State.NOTHING:
            self._drop_old(now - _hold(rtt))
        elif self._has_hole():
            self._give_up(self._reach)
        elif (keyframe := self._later_keyframe(now)) is not None:
            self._give_up(keyframe - 1)
        out, self._out = self._out, []
        return out

    def wants(self, now: float, rtt: float) -> Wants | None:
        """What to ask the sender for now, if anything. Call it after `take`, with the same."""
        if now < self._asked_at + ASK_INTERVAL:
            return None
        lossy = self._loss > MUCH_LOSS
        useful = self._useful()
        numbers = [
            number
            for number in useful
            if self._missing[number].to_repeat
            or (not self._is_young(number, now) and _may_ask(self._missing[number], now, rtt))
        ][:MAX_WANTS]
        for number in numbers:
            missing = self._missing[number]
            if missing.to_repeat:
                missing.to_repeat = False
            else:
                missing.asked, missing.asked_at, missing.to_repeat = missing.asked + 1, now, lossy
        keyframe_needed = len(useful) > MAX_WANTS or (self.state is State.NOTHING and not useful)
        keyframe = keyframe_needed and self._may_wish(now, rtt)
        self._wish_to_repeat = keyframe and lossy and now == self._wanted_at
        if not numbers and not keyframe:
            return None
        self._asked_at = now
        return Wants(tuple(number & 0xFFFF for number in numbers), keyframe)

    def restart(self) -> None:
        """What went out last could not be decoded: go on with a keyframe."""
        if self.state is State.FLOWING:
            self._give_up(self._head - 1)

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _keep(self, number: int, piece: Piece) -> None:
        self._pieces[number] = piece
        if len(self._pieces) > MAX_PIECES:
            self._give_up(max(self._pieces))
        elif self.state is State.NOTHING:
            if piece.first and piece.keyframe:
                self._start(number)
        elif number == self._reach:
            self._advance()

    def _note_missing(self, number: int, now: float) -> None:
        assert self._highest is not None
        between = range(self._highest + 1, number)
        self._loss = (1 - (1 - self._loss) * LEFT ** len(between)) * LEFT
        self._highest = number
        self._newest += 1
        if len(between) + len(self._missing) > MAX_MISSING:
            self.lost += len(between)
            self._give_up(number - 1)
            return
        for each in between:
            self._missing[each] = _Missing(now, self._newest)

    def _fits(self, number: int, piece: Piece) -> bool:
        """Whether it goes with the pieces beside it. So all the pieces in a row go together."""
        before = self._pieces.get(number - 1)
        if before is None and number == self._head:
            before = self._before
        after = self._pieces.get(number + 1)
        return (before is None or before.may_precede(piece)) and (after is None or piece.may_precede(after))

    def _useful(self) -> list[int]:
        """Which missing numbers could make a frame whole that can be decoded, the first ones first."""
        if self.state is not State.NOTHING:
            return sorted(number for number in self._missing if number >= self._head)
        useful: set[int] = set()
        for number in sorted(self._missing, reverse=True):
            after = self._pieces.get(number + 1)
            if number + 1 in useful or (after is not None and after.keyframe and not after.first):
                useful.add(number)
        return sorted(useful)

    def _may_wish(self, now: float, rtt: float) -> bool:
        """Whether a keyframe, which would be of use, is to be wished for now."""
        if self._wish_to_repeat:
            return True
        interval = max(KEYFRAME_INTERVAL, rtt + KEYFRAME_TIME)
        if now >= self._arrived_at + HOLD or now < self._wanted_at + interval:
            return False
        self._wanted_at = now
        self.keyframes_wanted += 1
        return True

    def _is_young(self, number: int, now: float) -> bool:
        """Whether it may only have been overtaken."""
        missing = self._missing[number]
        later = self._newest - missing.newest + 1
        return now < missing.since + REORDERED and later < REORDERED_PACKETS

    def _has_hole(self) -> bool:
        """Whether the number that is due was given up before it was known to be of use."""
        return self._highest is not None and self._reach <= self._highest and self._reach not in self._missing

    def _later_keyframe(self, now: float) -> int | None:
        """The first piece of a whole keyframe, if the frames before it wait for something."""
        stuck = self._missing.get(self._reach)
        if stuck is None or now < stuck.since + REORDERED:
            return None
        keyframes = sorted(
            number for number, piece in self._pieces.items() if piece.first and piece.keyframe and number > self._reach
        )
        return next(filter(self._is_whole, keyframes), None)

    def _is_whole(self, number: int) -> bool:
        while (piece := self._pieces.get(number)) is not None:
            if piece.last:
                return True
            number += 1
        return False

    # --- states -------------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        self.state = State.STARTING
        self._head = self._reach = number
        self._size = 0
        self._before = None
        self._advance()

    def _advance(self) -> None:
        while (piece := self._pieces.get(self._reach)) is not None:
            self._size += len(piece.data)
            self._reach += 1
            if self._size > MAX_FRAME:
                self.malformed += 1
                self._give_up(self._reach - 1)
                return
            if piece.last and not self._go_out():
                return

    def _go_out(self) -> bool:
        """Give out the frame from head to reach. False: it is of another codec than the one before, and cannot."""
        end = self._reach
        pieces = [self._pieces[number] for number in range(self._head, end)]
        last = pieces[-1]
        if not last.keyframe and last.codec is not self._codec:
            self.malformed += 1
            self._give_up(end - 1)
            return False
        self._out.append(
            EncodedFrame(
                b"".join(piece.data for piece in pieces),
                last.timestamp,
                last.keyframe,
                last.codec,
                min(piece.arrived_at for piece in pieces),
            )
        )
        for number in range(self._head, end):
            del self._pieces[number]
        self._drop_below(self._head)
        self.state = State.FLOWING
        self._codec = last.codec
        self._before = last
        self._floor = self._head = end
        self._size = 0
        return True

    def _give_up(self, number: int) -> None:
        """What is up to this number will never be decoded."""
        self.state = State.NOTHING
        self._before = None
        self._drop_below(number + 1)
        keyframes = [number for number, piece in self._pieces.items() if piece.first and piece.keyframe]
        if keyframes:
            self._start(min(keyframes))

    def _drop_below(self, floor: int) -> None:
        self._floor = max(self._floor, floor)
        self._drop([number for number in self._pieces if number < floor])
        for number in [number for number in self._missing if number < floor]:
            del self._missing[number]
            self.lost += 1

    def _drop_old(self, before: float) -> None:
        old = []
        for number, piece in self._pieces.items():
            if piece.arrived_at > before:
                break
            old.append(number)
        self._drop(old)

    def _drop(self, numbers: list[int]) -> None:
        self.frames_dropped += len({self._pieces.pop(number).timestamp for number in numbers})


def _hold(rtt: float) -> float:
    """How long what is missing may take, in seconds."""
    return min(max(HOLD, HOLD_ROUND_TRIPS * rtt), MAX_HOLD)


def _may_ask(missing: _Missing, now: float, rtt: float) -> bool:
    """Whether it may be asked for, if it was not only overtaken."""
    interval = max(min(rtt, max(LONG_RTT, rtt / 2)) + AGAIN, MIN_AGAIN)
    waited = not missing.asked or now >= missing.asked_at + interval
    return waited and missing.asked < MAX_ASKS and now + rtt <= missing.since + _hold(rtt)


def _is_hopeless(missing: _Missing, now: float, rtt: float) -> bool:
    """Whether it cannot come in time any more."""
    if now >= missing.since + _hold(rtt):
        return True
    since = missing.asked_at + max(rtt + AGAIN, MIN_AGAIN) if missing.asked else missing.since + REORDERED
    return now >= since and not _may_ask(missing, now, rtt)
