"""What a check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from relaycall.errors import RelaycallError


class Status(enum.StrEnum):
    """Whether something is as it should be: yes; calls work, but look at it; no."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Cause(enum.StrEnum):
    """Where what is wrong has to be put right."""

    NONE = "none"
    INSTALLATION = "installation"
    CONFIGURATION = "configuration"
    STORE = "store"
    CLOCK = "clock"
    LOCAL_NETWORK = "local_network"
    BLOCKED_TRANSPORT = "blocked_transport"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        check: what was looked at: "versions", or the URI of a relay.
        status: ok, warn or fail.
        sentence: what was found.
        next_step: what to do about it; empty if nothing.
        cause: where it has to be put right.
        exit_code: what a command ends with if this is the first that fails; by the class of error.
    """

    check: str
    status: Status
    sentence: str
    next_step: str = ""
    cause: Cause = Cause.NONE
    exit_code: int = 0

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "check": self.check,
            "status": str(self.status),
            "sentence": self.sentence,
            "next_step": self.next_step,
            "cause": str(self.cause),
        }


def ok(check: str, sentence: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Status.OK, sentence)


def failed(check: str, error: RelaycallError, cause: Cause) -> Finding:
    """What an error says."""
    return Finding(check, Status.FAIL, error.sentence, error.next_step, cause, error.exit_code)
