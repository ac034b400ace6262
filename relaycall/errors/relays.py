"""Why a relay cannot be used; and that none can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from relaycall.errors.base import RelaycallError


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


class RelayForgot(RelayLost):
    """437 to a Refresh: the relay is there, and no longer knows the allocation. It has restarted."""

    code = "relay_forgot"
    template = "The relay {relay} has forgotten the allocation: it restarted during the call."
    next_step = "Nothing: another allocation takes its place."


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


class RelaysLost(NoRelay):
    """Every relay was lost during a call, and none came back."""

    code = "relays_lost"

    def __init__(self, failures: Sequence[RelayError] = ()) -> None:
        super().__init__(failures)
        reasons = " ".join(dict.fromkeys(failure.sentence for failure in self.failures))
        self.sentence = f"Every relay was lost during the call. {reasons}".rstrip()
