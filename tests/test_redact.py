"""A secret comes out by `reveal` and in no other way."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import pprint
import traceback
from dataclasses import dataclass

import msgspec
import pytest
import rich.console

from relaycall.redact import Secret

CANARY = "correct horse battery staple"


@dataclass
class Holder:
    password: Secret
    more: list[Secret]


def test_reveal() -> None:
    assert Secret(CANARY).reveal() == CANARY


def rich_text(value: object) -> str:
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(value)
    return console.file.getvalue()


def logged(text: str, *arguments: object) -> str:
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.Logger("a logger of its own", logging.DEBUG)
    logger.addHandler(handler)
    logger.debug(text, *arguments)
    return handler.stream.getvalue()


def raised(secret: Secret) -> str:
    try:
        raise LookupError(secret)
    except LookupError as error:
        return repr(error) + "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


SHOWN = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": format,
    "str.format": "{0} {0!s} {0!r}".format,
    "per cent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "a list": lambda secret: repr([secret]),
    "a key and a value": lambda secret: repr({secret: secret}),
    "a dataclass": lambda secret: repr(Holder(secret, [secret])),
    "pprint": lambda secret: pprint.pformat([secret, Holder(secret, [secret])], width=10),
    "rich": lambda secret: rich_text([secret, Holder(secret, [secret])]),
    "logging": lambda secret: logged("logged in with %s %r", secret, [secret]),
    "an exception and its locals": raised,
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_nothing_shows_it(show: object) -> None:
    text = show(Secret(CANARY))
    assert "***" in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "write",
    [
        *(lambda value, protocol=protocol: pickle.dumps(value, protocol) for protocol in range(6)),
        copy.copy,
        copy.deepcopy,
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        "{:>10}".format,
        len,
        list,
        bytes,
        vars,
    ],
    ids=[
        *(f"pickle {protocol}" for protocol in range(6)),
        *("copy", "deepcopy", "json", "msgspec json", "msgspec", "format with a width", "len", "list", "bytes", "vars"),
    ],
)
def test_nothing_writes_it(write: object) -> None:
    with pytest.raises(TypeError) as caught:
        write(Secret(CANARY))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_equality_and_hash() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret(CANARY + ".")
    assert Secret(CANARY) != Secret("")
    assert Secret(CANARY) != CANARY
    assert hash(Secret(CANARY)) == hash(Secret(CANARY))
    assert {Secret(CANARY): 1}[Secret(CANARY)] == 1


def test_a_secret_that_is_not_text_is_compared_all_the_same() -> None:
    """Bytes of a command line that are not UTF-8 arrive as lone surrogates; an encoding error would quote it all."""
    assert Secret("pass\udcff") == Secret("pass\udcff")
    assert Secret("pass\udcff") != Secret("pass\udcfe")
