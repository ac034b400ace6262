"""What a setting may be, and one setting as some place gives it. What is wrong is told by the path of its key; the
value, which may be a secret, is never shown.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

import msgspec

from relaycall.errors import ConfigError

LONGEST_TTL = 366 * 86400
HELP = "The settings are listed in docs/configuration.md."
_MEANT = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


class RelayEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of `relays`."""

    urls: str | list[str]
    username: str | None = None
    credential: str | None = None
    shared_secret: str | None = None
    ttl: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_TTL)] = 86400
    tls_name: str | None = None
    region: str | None = None
    operator: str | None = None

    __repr__ = object.__repr__


class EndpointEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of `endpoints`."""

    url: str
    method: str = "GET"
    bearer: str | None = None
    headers: dict[str, str] = {}
    body: dict[str, str | int | float | bool] | None = None

    __repr__ = object.__repr__


TYPES: dict[str, Any] = {
    "relays": list[RelayEntry],
    "endpoints": list[EndpointEntry],
    "username": str,
    "credential": str,
    "laboratory": bool,
    "force_turn": bool,
}


class Given(NamedTuple):
    """One setting as some place gives it: its name, its value, the path of its key there, and the place."""

    name: str
    value: Any
    key: str
    source: str

    def __repr__(self) -> str:
        return f"<{self.key} of {self.source}>"

    def checked(self) -> Given:
        """With the value as its type. Raises ConfigError."""
        value = convert(self.value, TYPES[self.name], self.key, self.source)
        if self.name == "force_turn" and not value:
            raise self.wrong("", "cannot be false", "Leave it out: media goes through relays, or not at all.")
        if value == "":
            raise self.wrong("", "is empty")
        return self._replace(value=value)

    def wrong(self, below: str, problem: str, next_step: str = HELP) -> ConfigError:
        """The error for the key at the path `below` this one."""
        return wrong(self.key + below, self.source, problem, next_step)


def wrong(key: str, source: str, problem: str, next_step: str = HELP) -> ConfigError:
    """The error for a key."""
    key = re.sub(r"[^ -~]", "?", key)[:200]  # it comes from a file, and goes to a terminal
    return ConfigError(f"The setting {key} ({source}) {problem}.", next_step)


def convert(value: Any, kind: Any, key: str, source: str) -> Any:
    """The value as this type. Raises ConfigError, which names the key that is wrong, down to the innermost."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        said = str(error)  # types, limits and names of keys; never a value
    if " - at `" not in said:
        said += " - at `$`"
    what, _, where = said.rpartition(" - at `")
    key += where.rpartition("$")[2].rstrip("`")
    if where.startswith("key"):
        raise wrong(key, source, "has a key that is not text")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        raise wrong(f"{key}.{found[1]}", source, "is not known")
    if found := re.fullmatch(r"Object missing required field `(.*)`", what):
        raise wrong(f"{key}.{found[1]}", source, "is missing")
    if found := re.fullmatch(r"Expected `([a-z |]+)`, got `([a-z]+)`", what):
        wanted, got = (" or ".join(_MEANT.get(one, one) for one in part.split(" | ")) for part in found.groups())
        raise wrong(key, source, f"has to be {wanted}, not {got}")
    raise wrong(key, source, "is out of range")
