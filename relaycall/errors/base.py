"""The root of the errors, and what belongs to no part."""

from __future__ import annotations

from typing import ClassVar


class RelaycallError(Exception):
    """Base of all errors of this library.

    Attributes:
        code: a stable, short name for programs ("relay_refused").
        exit_code: what the command line ends with: 2 usage, 3 relay, 4 signaling, 5 security, 6 device or store,
            7 remote.
        sentence: what happened, for people.
        next_step: what to do about it.
    """

    code: ClassVar[str] = "error"
    exit_code: int = 1
    sentence: str = "Something went wrong."
    next_step: str = "Please report this with the steps that led here."

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.code}: {self.sentence}>"


class ConfigError(RelaycallError):
    """A setting, an argument or a URI is not usable. `ConfigError(what is wrong, what to do)`."""

    code = "config"
    exit_code = 2

    def __init__(self, sentence: str, next_step: str = "Correct the value and try again.") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step


class ExtraMissing(ConfigError):
    """What is asked for takes an optional package that is not installed."""

    code = "extra_missing"


class MalformedMessage(RelaycallError):
    """Bytes that are not the message they should be: STUN, ChannelData, or a call record."""

    code = "malformed_message"
    exit_code = 5
    next_step = "It was dropped; nothing needs to be done."

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
