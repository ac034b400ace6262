"""Every error relaycall raises: one tree, each with a code, a sentence and a next step.

A message names the relay or the file concerned, as the user wrote it. It never holds a secret, and never an address
that the user did not write. Errors survive pickling, and what a foreign library raised is not kept inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class MalformedMessage(RelaycallError):
    """Bytes that are not the message they should be: STUN, ChannelData, or a call record."""

    code = "malformed_message"
    exit_code = 5
    next_step = "It was dropped; nothing needs to be done."

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


# --- relays ----------------------------------------------------------------------------------------------------------


class RelayError(RelaycallError):
    """One relay could not be used. `RelayError(relay)`, where relay is its name (the URI without credentials)."""

    code = "relay"
    exit_code = 3
    template: ClassVar[str] = "The relay {relay} could not be used."
    next_step = "Check the relay's address and credentials."

    def __init__(self, relay: str, detail: str = "") -> None:
        super().__init__(relay, detail)
        self.relay = relay
        self.detail = detail
        sentence = self.template.format(relay=relay)
        self.sentence = f"{sentence[:-1]} ({detail})." if detail else sentence


class RelayNameUnknown(RelayError):
    """The relay's host name has no address."""

    code = "relay_name_unknown"
    template = "The name of the relay {relay} is unknown."
    next_step = "Check the spelling, and that this machine can look up names."


class RelayRefused(RelayError):
    """Nobody listens there: ICMP port unreachable, or a TCP reset."""

    code = "relay_refused"
    template = "The relay {relay} refused the connection."
    next_step = "Check the port and the transport, and that the relay is running."


class RelayTimeout(RelayError):
    """No answer in time: dead, frozen, or filtered on the way."""

    code = "relay_timeout"
    template = "The relay {relay} did not answer in time."
    next_step = "A firewall may block it: try transport=tcp or turns: on port 443."


class RelayUnreachable(RelayError):
    """This machine has no route to the relay, or the network is down."""

    code = "relay_unreachable"
    template = "The relay {relay} cannot be reached from this network."
    next_step = "Check that this machine is online and has a route to the relay."


class RelayCertificateInvalid(RelayError):
    """The TLS certificate is expired, self-signed, or from an unknown authority."""

    code = "relay_certificate"
    template = "The certificate of the relay {relay} is not trusted."
    next_step = "If it uses a private authority, give an ssl_context that trusts it; never switch the check off."


class RelayCertificateName(RelayCertificateInvalid):
    """The TLS certificate is for another name."""

    code = "relay_certificate_name"
    template = "The certificate of the relay {relay} is for another name."
    next_step = "Use the name in the certificate, or give it as tls_name when the address is pinned."


class RelayTlsFailed(RelayError):
    """Something that does not speak TLS, or no common version or cipher."""

    code = "relay_tls"
    template = "The relay {relay} did not complete the TLS handshake."
    next_step = "Check that the port is the TLS port (usually 5349 or 443)."


class RelayNotTurn(RelayError):
    """What answers there does not speak TURN."""

    code = "relay_not_turn"
    template = "What answers at the relay {relay} does not speak TURN."
    next_step = "Check the port: another service may be listening there."


class RelayRefusedCredentials(RelayError):
    """401 after authentication, or 441: user name or password are wrong or expired."""

    code = "relay_credentials"
    template = "The relay {relay} refused the user name or password."
    next_step = "Check the credentials; time-limited ones may have expired."


class RelayNeedsCredentials(RelayError):
    """The relay asks for credentials and none were given."""

    code = "relay_needs_credentials"
    template = "The relay {relay} asks for a user name and a password."
    next_step = "Give both."


class RelayForbidden(RelayError):
    """403: the request, or the peer's address, is forbidden by the relay's policy."""

    code = "relay_forbidden"
    template = "The relay {relay} forbids this request."
    next_step = "Ask its operator which users and peer addresses are allowed."


class RelayForbiddenPeer(RelayForbidden, ConnectionError):
    """403 on a permission or channel: the peer's relay is not allowed as a destination."""

    code = "relay_forbidden_peer"
    template = "The relay {relay} forbids sending to the peer's relay."
    next_step = "Its denied-peer list covers that address: use another relay on one side, or change the list."


class RelayQuota(RelayError):
    """486: this user has too many allocations."""

    code = "relay_quota"
    template = "The relay {relay} has no allocation left for this user."
    next_step = "End other calls, or ask for a larger quota; stale allocations expire within minutes."


class RelayCapacity(RelayError):
    """508: the relay is full."""

    code = "relay_capacity"
    template = "The relay {relay} is full."
    next_step = "Try again later or use another relay."


class RelayRedirected(RelayError):
    """300: the relay sends its users elsewhere. It is not followed, since the answer is not authenticated."""

    code = "relay_redirect"
    template = "The relay {relay} sends its users to another server."
    next_step = "Configure that server itself: a redirect is not authenticated, so it is never followed."


class RelayUnsupported(RelayError):
    """440, 442, 420: address family, transport or an attribute is not supported there."""

    code = "relay_unsupported"
    template = "The relay {relay} does not support what was asked for."
    next_step = "Try the other address family or another transport."


class RelayBusy(RelayError):
    """437: the five-tuple is still in use there (RFC 8656, section 7.2); retried on a new socket first."""

    code = "relay_busy"
    template = "The relay {relay} still holds an older allocation for this socket."
    next_step = "Try again."


class RelayServerError(RelayError):
    """Any other error answer, 500 included."""

    code = "relay_server_error"
    template = "The relay {relay} answered with an error."
    next_step = "Look into the relay's log."


class RelayLied(RelayError):
    """The answer cannot be honest: not authenticated, or a relayed address that is ours or not public."""

    code = "relay_lied"
    exit_code = 5
    template = "The relay {relay} gave an answer that cannot be trusted."
    next_step = "Do not use this relay."


class RelayLost(RelayError):
    """An allocation that worked is gone: the relay restarted, reset the connection or stopped answering."""

    code = "relay_lost"
    template = "The relay {relay} was lost during the call."
    next_step = "Use a second relay as a backup."


class CredentialsError(RelayError):
    """The HTTP endpoint that gives out relays and credentials failed. `relay` is its scheme and host."""

    code = "credentials"
    template = "The credentials endpoint {relay} did not give relay credentials."
    next_step = "Check its URL, and that the service is running."


class CredentialsTimeout(CredentialsError):
    """The credentials endpoint did not answer in time."""

    code = "credentials_timeout"
    template = "The credentials endpoint {relay} did not answer in time."
    next_step = "Check that this machine is online, and try again."


class CredentialsRefused(CredentialsError):
    """401 or 403 from the credentials endpoint."""

    code = "credentials_refused"
    template = "The credentials endpoint {relay} refused the token or key."
    next_step = "Check the token or key, and that it has not been revoked."


class CredentialsCertificate(CredentialsError):
    """TLS with the credentials endpoint failed: its certificate is not trusted, or it does not speak TLS."""

    code = "credentials_certificate"
    template = "There is no trusted TLS connection with the credentials endpoint {relay}."
    next_step = "If it uses a private authority, give an ssl_context that trusts it; never switch the check off."


class CredentialsMalformed(CredentialsError):
    """The credentials endpoint's answer is not a list of ICE servers."""

    code = "credentials_malformed"
    template = "The answer of the credentials endpoint {relay} is not a list of ICE servers."
    next_step = "It has to be JSON with iceServers, each with urls, username and credential."


class NoRelay(RelaycallError, ConnectionError):
    """No relay could be used, so there is no call: media never goes another way.

    Attributes:
        failures: one `RelayError` per relay that was tried, in the order given.
    """

    code = "no_relay"
    exit_code = 3
    next_step = "Correct one of them, or configure another relay."

    def __init__(self, failures: Sequence[RelayError] = ()) -> None:
        super().__init__(tuple(failures))
        self.failures = tuple(failures)
        reasons = " ".join(failure.sentence for failure in self.failures)
        self.sentence = f"No relay could be used. {reasons}" if reasons else "No relay is configured."
        if len(self.failures) == 1:
            self.next_step = self.failures[0].next_step
        if any(failure.exit_code == 5 for failure in self.failures):
            self.exit_code = 5


# --- path, media, files -----------------------------------------------------------------------------------------------


class NoPath(RelaycallError, ConnectionError):
    """Both sides hold relays, but no pair of them carries packets. Also a ConnectionError, as aiortc expects."""

    code = "no_path"
    exit_code = 3
    sentence = "No path between the two sides' relays carried packets."
    next_step = "A relay may forbid the other as a peer, or block its port range: try other relays."


class CallClosed(RelaycallError, ConnectionError):
    """The call or connection is closed. Also a ConnectionError, as aiortc expects."""

    code = "closed"
    exit_code = 7
    sentence = "The call is closed."
    next_step = "Place a new call."


class RecordRefused(RelaycallError):
    """The peer's call record breaks the rules: `RecordRefused(which rule)`."""

    code = "record_refused"
    exit_code = 5
    next_step = "The other side must run a current relaycall; if it does, somebody altered the record."

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.sentence = f"The other side's call record was refused: {rule}."


class SignalingError(RelaycallError):
    """An envelope could not be delivered."""

    code = "signaling"
    exit_code = 4

    def __init__(self, sentence: str, next_step: str = "Check that the other side is there and try again.") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step


class MediaError(RelaycallError):
    """An audio file or device cannot be used. `MediaError(what is wrong, what to do)`."""

    code = "media"
    exit_code = 6

    def __init__(self, sentence: str, next_step: str = "Give another file.") -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence
        self.next_step = next_step


# --- secrets and where they are kept ----------------------------------------------------------------------------------


class StoreError(RelaycallError):
    """The keyring or the vault cannot be used. `StoreError(what is wrong, what to do)`; both have a default."""

    code = "store"
    exit_code = 6
    sentence = "The store of secrets cannot be used."
    next_step = "Give the secret as env:NAME or file:PATH instead."

    def __init__(self, sentence: str | None = None, next_step: str | None = None) -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence or self.sentence
        self.next_step = next_step or self.next_step


class StoreUnavailable(StoreError):
    """There is no keyring, or only one that keeps nothing or keeps it unencrypted."""

    code = "store_unavailable"
    sentence = "This machine has no keyring that keeps secrets encrypted."
    next_step = "Set RELAYCALL_VAULT_PASSPHRASE to use the encrypted vault, or use env:NAME or file:PATH."


class StoreLocked(StoreError):
    """The keyring is locked, and nobody unlocked it."""

    code = "store_locked"
    sentence = "The keyring is locked."
    next_step = "Unlock it and try again, set RELAYCALL_VAULT_PASSPHRASE (the vault), or use env:NAME or file:PATH."


class StoreTimeout(StoreError):
    """The keyring, or another program that holds the vault, did not answer in time."""

    code = "store_timeout"
    sentence = "The keyring did not answer in time."
    next_step = "Unlock it if it asks, set RELAYCALL_VAULT_PASSPHRASE (the vault), or use env:NAME or file:PATH."


class SecretMissing(StoreError):
    """Nothing is kept under that name."""

    code = "secret_missing"
    sentence = "Nothing is kept under that name."
    next_step = "See the names with relaycall credentials list, and add one with relaycall credentials set."


class VaultRefused(StoreError):
    """The vault does not open: the passphrase is wrong or the file was altered, which cannot be told apart."""

    code = "vault_refused"
    sentence = "The vault does not open: wrong passphrase or altered file."
    next_step = "Check the passphrase; if it is right, restore the file from a copy. It was left as it is."


class VaultDamaged(StoreError):
    """The file is not a vault, is cut short, or asks for more memory than a vault may."""

    code = "vault_damaged"
    sentence = "The vault is damaged."
    next_step = "Restore it from a copy, or move it away to start a new one. It was left as it is."


class VaultExposed(StoreError):
    """The vault is a link, belongs to another user, or others may read or replace it."""

    code = "vault_exposed"
    sentence = "Others may read or replace the vault."
    next_step = "Make it your own regular file, with chmod 600, in a folder that only you can write to."
