"""The tree of errors: each class has a code, a sentence and a next step, and survives being sent elsewhere."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import Counter
from collections.abc import Callable

import pytest

from relaycall import errors
from relaycall.errors import (
    CallClosed,
    CardRefused,
    ConfigError,
    ContactExists,
    ContactUnknown,
    HandshakeRefused,
    KeyChanged,
    MalformedMessage,
    MediaError,
    NoPath,
    NoRelay,
    NotVerified,
    OnAnotherServer,
    RecordRefused,
    RelaycallError,
    RelayCertificateInvalid,
    RelayCertificateName,
    RelayError,
    RelayForbidden,
    RelayForbiddenPeer,
    RelayLied,
    RelayRefused,
    RelaysLost,
    RelayTimeout,
    SignalingError,
)

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, RelaycallError)]
RELAY = "turn:relay.example.org:3478?transport=udp"
# 2 usage, 3 relay, 4 signaling, 5 security, 6 device or store, 7 remote; 1 is the base's own.
EXIT_CODES = {2, 3, 4, 5, 6, 7}


def made(error: type[RelaycallError]) -> RelaycallError:
    """One of each, with arguments as the library gives them."""
    if issubclass(error, RelayError):
        return error(RELAY, "500 Server Error")
    if error is NoRelay:
        return NoRelay([RelayRefused(RELAY), RelayTimeout("turns:other.example.org:443?transport=tcp")])
    if issubclass(error, ConfigError) or error in (SignalingError, MediaError):
        return error("The file call.ogg does not exist.", "Give another file.")
    if error is MalformedMessage:
        return error("LIFETIME has the wrong length.")
    if error is KeyChanged:
        return error("bob", "0123 4567", "89ab cdef")
    if error in (ContactExists, ContactUnknown, NotVerified, OnAnotherServer):
        return error("bob")
    if issubclass(error, RecordRefused) or error in (CardRefused, HandshakeRefused):
        return error("it has too many candidates")
    return error()


each_class = pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)


def test_codes_are_distinct() -> None:
    assert [code for code, times in Counter(error.code for error in CLASSES).items() if times > 1] == []


@each_class
def test_what_each_says(error: type[RelaycallError]) -> None:
    assert error.__doc__
    one = made(error)
    assert one.code
    assert one.code == one.code.lower().replace(" ", "_")
    assert one.exit_code in (EXIT_CODES if error is not RelaycallError else {1})
    for text in (one.sentence, one.next_step):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "{" not in text
    assert str(one) == f"{one.sentence} {one.next_step}"
    assert repr(one) == f"<{error.__name__} {one.code}: {one.sentence}>"


@each_class
def test_each_relay_error_names_its_relay(error: type[RelaycallError]) -> None:
    if issubclass(error, RelayError):
        assert error(RELAY).relay == RELAY
        assert RELAY in error(RELAY).sentence
        assert error(RELAY, "because").sentence == f"{error(RELAY).sentence[:-1]} (because)."
        assert error("{curly} %s").sentence.count("{curly} %s") == 1


ATTRIBUTES = ("code", "exit_code", "sentence", "next_step", "relay", "detail", "args")


WAYS: list[Callable[[RelaycallError], RelaycallError]] = [
    *(lambda one, protocol=protocol: pickle.loads(pickle.dumps(one, protocol)) for protocol in range(6)),
    copy.copy,
    copy.deepcopy,
]


@each_class
def test_each_arrives_as_it_was(error: type[RelaycallError]) -> None:
    """Pickled by each protocol, and copied."""
    for send in WAYS:
        one = made(error)
        again = send(one)
        assert type(again) is error
        assert again is not one
        assert (str(again), repr(again)) == (str(one), repr(one))
        for name in ATTRIBUTES:
            if name != "args" or error is not NoRelay:  # its failures are compared below: errors have no equality
                assert getattr(again, name, None) == getattr(one, name, None)
        assert list(map(repr, getattr(again, "failures", ()))) == list(map(repr, getattr(one, "failures", ())))


def test_the_tree() -> None:
    """What callers may catch together."""
    assert issubclass(RelayCertificateName, RelayCertificateInvalid)
    assert issubclass(RelayForbiddenPeer, RelayForbidden)
    for error in (NoPath, CallClosed):
        assert issubclass(error, ConnectionError)  # what aiortc expects of a connection
    assert not issubclass(NoRelay, RelayError)
    assert {error for error in CLASSES if error.exit_code == 3} == {
        error for error in CLASSES if issubclass(error, RelayError) and error is not RelayLied
    } | {NoRelay, RelaysLost, NoPath}


class TestNoRelay:
    def test_names_every_relay_and_reason_in_order(self) -> None:
        failures = [RelayTimeout(RELAY), RelayRefused("turn:second.example.org:3478?transport=tcp")]
        error = NoRelay(failures)
        assert error.failures == tuple(failures)
        assert error.sentence == f"No relay could be used. {failures[0].sentence} {failures[1].sentence}"
        assert error.next_step == NoRelay.next_step
        assert error.exit_code == 3

    def test_of_one_gives_its_next_step(self) -> None:
        assert NoRelay([RelayTimeout(RELAY)]).next_step == RelayTimeout.next_step

    def test_without_any(self) -> None:
        error = NoRelay()
        assert error.failures == ()
        assert error.sentence == "No relay is configured."
        assert error.next_step == NoRelay.next_step

    @pytest.mark.parametrize("failures", [[RelayLied(RELAY)], [RelayTimeout(RELAY), RelayLied(RELAY)]])
    def test_is_a_matter_of_security_when_one_of_them_is(self, failures: list[RelayError]) -> None:
        assert NoRelay(failures).exit_code == 5
        assert pickle.loads(pickle.dumps(NoRelay(failures))).exit_code == 5
        assert NoRelay.exit_code == 3

    def test_does_not_change_with_the_list_it_was_given(self) -> None:
        failures = [RelayTimeout(RELAY)]
        error = NoRelay(failures)
        failures.clear()
        assert len(error.failures) == 1
