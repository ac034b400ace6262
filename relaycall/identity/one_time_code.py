"""One-time codes, as two people say them: 7-absurd-bravado. Without I/O.

The number leads to a mailbox, and the server knows it. The words are bytes from `words` that only the two people know.
Two words are 16 bits: little for a password, enough for one that can be tried once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relaycall.errors import CodeMalformed
from relaycall.identity.words import bytes_to_words, split_words, words_to_bytes
from relaycall.signaling.frames import MAX_NAMEPLATE

FEWEST_WORDS = 2
MOST_WORDS = 3

_DIGITS = 10  # of a nameplate, at most


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """A code. `repr` shows the number alone, which is no secret.

    Attributes:
        nameplate: the number, 1 or more.
        secret: one byte for each word, 2 or 3.
    """

    nameplate: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (1 <= self.nameplate <= MAX_NAMEPLATE and FEWEST_WORDS <= len(self.secret) <= MOST_WORDS):
            raise CodeMalformed("its number or its words are not those of a code")

    def reveal(self) -> str:
        """The code itself, to be shown to our user alone."""
        return "-".join((str(self.nameplate), *bytes_to_words(self.secret)))


def parse_code(text: str) -> OneTimeCode:
    """The code that somebody typed, with any case, and hyphens, spaces or the like in between.

    Raises:
        CodeMalformed: it is none. It says what is wrong with it, and does not repeat it.
    """
    found = _read(text)
    del text  # a frame that raises holds no secrets
    if isinstance(found, str):
        raise CodeMalformed(found)
    return found


def _read(text: str) -> OneTimeCode | str:
    """The code, or what is wrong with it."""
    try:
        number, *words = split_words(text) or ("",)
        if not (number.isdecimal() and len(number) <= _DIGITS):
            return "it does not begin with a number"
        if not FEWEST_WORDS <= len(words) <= MOST_WORDS:
            return f"it does not have {FEWEST_WORDS} or {MOST_WORDS} words after the number"
        return OneTimeCode(int(number), words_to_bytes(tuple(words)))
    except CodeMalformed as error:
        return str(error.args[0])
