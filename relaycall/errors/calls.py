"""What ends a call, or keeps it from being placed, other than a relay."""

from __future__ import annotations

from relaycall.errors.base import RelaycallError


class NoPath(RelaycallError, ConnectionError):
    """Both sides hold relays, but no pair of them carries packets. Also a ConnectionError, as aiortc expects."""

    code = "no_path"
    exit_code = 3
    sentence = "No path between the two sides' relays carried packets."
    next_step = "A relay may forbid the other as a peer, or block its port range: try other relays."


class PeerLost(RelaycallError, ConnectionError):
    """Nothing was heard from the other side for 90 seconds, over any relay."""

    code = "peer_lost"
    exit_code = 7
    sentence = "The other side was not heard for 90 seconds."
    next_step = "Its machine or its network is down; place a new call later."


class CallClosed(RelaycallError, ConnectionError):
    """The call or connection is closed. Also a ConnectionError, as aiortc expects."""

    code = "closed"
    exit_code = 7
    sentence = "The call is closed."
    next_step = "Place a new call."


class VideoNotTaken(RelaycallError):
    """The other side of a call takes no video: it has given no place for it."""

    code = "video_not_taken"
    exit_code = 7
    sentence = "The other side takes no video in this call."
    next_step = "Ask them to call with video, and place a new call."


class RecordRefused(RelaycallError):
    """The peer's call record breaks the rules: `RecordRefused(which rule)`."""

    code = "record_refused"
    exit_code = 5
    next_step = "The other side must run a current relaycall; if it does, somebody altered the record."

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.sentence = f"The other side's call record was refused: {rule}."


class SdpRefused(RecordRefused):
    """A session description (SDP) that shows another address than a relay's, or breaks a rule: `SdpRefused(rule)`."""

    code = "sdp_refused"
    next_step = "Both sides must use relays only (iceTransportPolicy relay); if they do, somebody altered it."

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.sentence = f"The session description was refused: {rule}."


class SignalingError(RelaycallError):
    """An envelope could not be delivered."""

    code = "signaling"
    exit_code = 4

    def __init__(self, sentence: str, next_step: str = "Check that the other side is there and try again.") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step


class MediaError(RelaycallError):
    """Sound or pictures cannot be had, coded, sent or kept: a file, a device or a source fails, or a codec is missing.

    Args:
        sentence: what is wrong.
        next_step: what to do.
    """

    code = "media"
    exit_code = 6

    def __init__(self, sentence: str, next_step: str = "Give another file.") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step


class DeviceMissing(MediaError):
    """There is no microphone or speaker, or none of that name."""

    code = "device_missing"

    def __init__(
        self,
        sentence: str = "There is no sound device.",
        next_step: str = "Connect one; relaycall devices lists what there is.",
    ) -> None:
        super().__init__(sentence, next_step)


class DeviceFailed(MediaError):
    """A microphone or speaker cannot be opened, has stopped working, or does not answer."""

    code = "device_failed"

    def __init__(
        self,
        sentence: str = "The sound device does not work.",
        next_step: str = "Check that it is connected and that no other program has it.",
    ) -> None:
        super().__init__(sentence, next_step)


class DeviceForbidden(MediaError):
    """This user, or this program, may not use the microphone or speaker."""

    code = "device_forbidden"

    def __init__(
        self,
        sentence: str = "This program may not use the sound device.",
        next_step: str = "Allow it in the system's privacy settings.",
    ) -> None:
        super().__init__(sentence, next_step)


class PortAudioMissing(MediaError):
    """The library PortAudio, which the extra `audio` needs, is not there or does not start."""

    code = "portaudio_missing"

    def __init__(
        self,
        sentence: str = "PortAudio, the library for sound devices, is not there or does not start.",
        next_step: str = "Install it: apt install libportaudio2, dnf install portaudio or brew install portaudio.",
    ) -> None:
        super().__init__(sentence, next_step)
