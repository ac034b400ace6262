"""Why an envelope, a card, a code or a call is not believed."""

from __future__ import annotations

from relaycall.errors.base import RelaycallError


class MessageRefused(RelaycallError):
    """An envelope was opened, or not even that, and is not acted on. `MessageRefused(which rule)`."""

    code = "message_refused"
    exit_code = 5
    next_step = "It was dropped; nothing needs to be done."

    def __init__(self, rule: str = "it breaks a rule") -> None:
        super().__init__(rule)
        self.sentence = f"An envelope was refused: {rule}."


class NotForUs(MessageRefused):
    """No key of ours opens it: it is for somebody else, or not an envelope, or was altered on the way."""

    code = "not_for_us"

    def __init__(self, rule: str = "no key of ours opens it") -> None:
        super().__init__(rule)


class PrekeyRetired(MessageRefused):
    """It was sealed to a prekey of ours that is deleted by now."""

    code = "prekey_retired"
    next_step = "The sender has to ask for our present prekey; its relaycall does so by itself."

    def __init__(self, rule: str = "it is sealed to a key that we have deleted") -> None:
        super().__init__(rule)


class SignatureRefused(MessageRefused):
    """The signature inside is not the sender's, or was made for another recipient: passed on, or forged."""

    code = "signature_refused"

    def __init__(self, rule: str = "its signature is not for this") -> None:
        super().__init__(rule)


class MessageReplayed(MessageRefused):
    """Its counter is not above the last one of the same sender: it came before, or in the wrong order."""

    code = "message_replayed"

    def __init__(self, rule: str = "it is not newer than the last one of its sender") -> None:
        super().__init__(rule)


class MessageStale(MessageRefused):
    """It is older than an envelope may be, or the two clocks differ by more than two minutes."""

    code = "message_stale"
    next_step = "Check the clock of this machine, and have the sender check theirs."

    def __init__(self, rule: str = "it is too old, or one of the two clocks is wrong") -> None:
        super().__init__(rule)


class MessageTooLarge(RelaycallError):
    """What is to be sealed does not fit into an envelope."""

    code = "message_too_large"
    exit_code = 2
    sentence = "The message does not fit into an envelope."
    next_step = "Send less."


class HandshakeRefused(RelaycallError):
    """The other side's part of a call's handshake breaks a rule. `HandshakeRefused(which rule)`."""

    code = "handshake_refused"
    exit_code = 5
    next_step = "The other side must run a current relaycall; if it does, somebody interferes."

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.sentence = f"The handshake of the call was refused: {rule}."


class CardRefused(RelaycallError):
    """A contact card is damaged, not signed by its own key, or breaks a rule. `CardRefused(which rule)`."""

    code = "card_refused"
    exit_code = 5
    next_step = "Have it sent again, whole and unaltered."

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.sentence = f"The contact card was refused: {rule}."


class KeyChanged(RelaycallError):
    """A contact comes with other keys than those we know. `KeyChanged(name, known, presented)`.

    Attributes:
        name: of the contact, as our user gave it.
        known, presented: the two fingerprints.
    """

    code = "key_changed"
    exit_code = 5
    next_step = "Ask them in another way whether they have new keys, compare the fingerprint, then accept or remove."

    def __init__(self, name: str, known: str, presented: str) -> None:
        super().__init__(name, known, presented)
        self.name = name
        self.known = known
        self.presented = presented
        self.sentence = f"The keys of {name} have changed: {known} is known, {presented} is presented."


class NotVerified(RelaycallError):
    """The policy asks for a verified contact, and this one is not. `NotVerified(name)`."""

    code = "not_verified"
    exit_code = 5
    next_step = "Compare the safety number with them, then mark them as verified."

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.sentence = f"The contact {name} is not verified."


class ContactUnknown(RelaycallError):
    """There is no contact of that name. `ContactUnknown(name)`."""

    code = "contact_unknown"
    exit_code = 2
    next_step = "See the names with relaycall contacts list; add one with relaycall contacts add."

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.sentence = f"There is no contact named {name}."


class ContactExists(RelaycallError):
    """That name is taken by another contact, or these keys have another name. `ContactExists(name)`."""

    code = "contact_exists"
    exit_code = 2
    next_step = "Choose another name, or remove the contact first."

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.sentence = f"There is a contact named {name} already."


class IdentityMissing(RelaycallError):
    """There are no keys in the store. They are made only when that is asked for."""

    code = "identity_missing"
    exit_code = 6
    sentence = "There are no keys yet."
    next_step = "Make them with relaycall keys show, or check that this is the right keyring or vault."


class IdentityDamaged(RelaycallError):
    """What the store holds under our name cannot be read. Nothing is made in its place. `IdentityDamaged(what)`."""

    code = "identity_damaged"
    exit_code = 6
    next_step = "Restore the keyring or vault from a copy. New keys would make you a stranger to everybody."

    def __init__(self, what: str = "keys") -> None:
        super().__init__(what)
        self.sentence = f"The {what} in the store cannot be read."


class CodeMalformed(RelaycallError):
    """A one-time code is not one. `CodeMalformed(what is wrong)`; the code itself is not repeated."""

    code = "code_malformed"
    exit_code = 2
    next_step = "A code is a number and words, such as 7-absurd-bravado-..., as the other side reads it out."

    def __init__(self, what: str = "it is not a number and words of the list") -> None:
        super().__init__(what)
        self.sentence = f"This is no one-time code: {what}."


class PairingFailed(RelaycallError):
    """The code was wrong on one of the two sides, or somebody tried to guess it. It is used up either way."""

    code = "pairing_failed"
    exit_code = 5
    sentence = "The two sides did not have the same code; it is used up."
    next_step = "Make a new code and try again. If it was typed rightly, somebody may have tried to come between."


class PairingTimeout(RelaycallError):
    """Nobody used the code in time, or the other side went away."""

    code = "pairing_timeout"
    exit_code = 7
    sentence = "The other side did not answer in time."
    next_step = "Make a new code and try again while both are there."


class CodeNeeded(RelaycallError):
    """They take calls from their contacts only, and we are none yet."""

    code = "code_needed"
    exit_code = 7
    sentence = "They take calls from people they know only."
    next_step = "Exchange a one-time code with them first, then call again."


class OnAnotherServer(RelaycallError):
    """A contact has their mailbox on another signaling server than ours. `OnAnotherServer(name)`.

    It is not contacted by itself: whoever runs that server would see our address, and it may be the contact.
    """

    code = "on_another_server"
    exit_code = 4
    next_step = "Open a phone on that server if you trust who runs it, or have them open one on yours."

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.sentence = f"The contact {name} is on another signaling server."
