"""Why an envelope did not travel, or a mailbox does not open."""

from __future__ import annotations

from typing import ClassVar

from relaycall.errors.base import RelaycallError
from relaycall.errors.calls import SignalingError


class SignalingServerError(SignalingError):
    """The signaling server could not be used. `SignalingServerError(server, detail)`.

    Attributes:
        server: host and port as the user gave them, or "" if there is none.
        detail: more about the cause, or "".
    """

    code = "signaling_server"
    template: ClassVar[str] = "The signaling server{server} could not be used."
    next_step = "Check its URL, and that this machine is online."

    def __init__(self, server: str = "", detail: str = "") -> None:
        RelaycallError.__init__(self, server, detail)
        self.server = server
        self.detail = detail
        sentence = self.template.replace("{server}", f" {server}" if server else "")
        self.sentence = f"{sentence[:-1]} ({detail})." if detail else sentence


class SignalingUnreachable(SignalingServerError):
    """The server's name is unknown, or there is no route to it, or the connection broke."""

    code = "signaling_unreachable"
    template = "The signaling server{server} cannot be reached."
    next_step = "Check the spelling of its URL, and that this machine is online."


class SignalingRefused(SignalingServerError):
    """Nobody listens on that port."""

    code = "signaling_refused"
    template = "The signaling server{server} refused the connection."
    next_step = "Check the port, and that the server is running."


class SignalingTimeout(SignalingServerError):
    """The server did not answer in time, or was not back in time. What was being sent may still arrive."""

    code = "signaling_timeout"
    template = "The signaling server{server} did not answer in time."
    next_step = "A firewall may block it: try https: instead of wss:, or try again later."


class SignalingCertificate(SignalingServerError):
    """TLS with the server failed: its certificate is not trusted or for another name, or it does not speak TLS."""

    code = "signaling_certificate"
    template = "There is no trusted TLS connection with the signaling server{server}."
    next_step = "If it uses a private authority, give an ssl_context that trusts it; never switch the check off."


class NotSignaling(SignalingServerError):
    """What answers there is another service, or speaks another version."""

    code = "signaling_not_ours"
    template = "The signaling server{server} is no relaycall signaling server."
    next_step = "Check host, port and path: another service answers there, or a proxy does not let WebSockets pass."


class SignalingMisnamed(SignalingServerError):
    """The server does not go by the name in the URL, so a proof made for that name is not accepted."""

    code = "signaling_misnamed"
    template = "The signaling server{server} does not go by that name."
    next_step = "Use the name that its operator gives, or add this one: relaycall serve --name NAME."


class SignalingBusy(SignalingServerError):
    """The server is at one of its limits: connections, mailboxes or envelopes."""

    code = "signaling_busy"
    template = "The signaling server{server} is full."
    next_step = "Try again later, or use another server."


class SignalingRateLimited(SignalingServerError):
    """Too much was sent in a short time.

    Attributes:
        retry_after: seconds after which the server takes more.
    """

    code = "signaling_rate_limited"
    template = "The signaling server{server} takes no more from here for now."
    next_step = "Send less often."

    def __init__(self, server: str = "", detail: str = "", retry_after: float = 1.0) -> None:
        super().__init__(server, detail)
        self.args = (server, detail, retry_after)
        self.retry_after = retry_after


class SignalingClosed(SignalingServerError):
    """It was used before it was opened, or after it was closed."""

    code = "signaling_closed"
    template = "The mailbox on the signaling server{server} is not open."
    next_step = "Open it, and send before closing."


class MailboxRefused(SignalingServerError):
    """The proof of the mailbox's key was not accepted: the mailbox is not ours."""

    code = "mailbox_refused"
    exit_code = 5
    template = "The signaling server{server} refused the mailbox, since its key was not proved."
    next_step = "Only who holds the key of a mailbox may read it: open your own."


class MailboxReplaced(SignalingServerError):
    """Another client has opened the same mailbox since."""

    code = "mailbox_replaced"
    template = "The signaling server{server} gave the mailbox to another client with the same key."
    next_step = "Use one client at a time for a key."


class MailboxFull(SignalingServerError):
    """The receiver has not taken what was sent before."""

    code = "mailbox_full"
    template = "The signaling server{server} holds as much for that mailbox as it may."
    next_step = "Wait until the other side reads it."


class EnvelopeRefused(SignalingError):
    """An envelope or a mailbox id of another size than they have. `EnvelopeRefused(which rule)`."""

    code = "envelope_refused"
    next_step = "An envelope has 4096 bytes, a mailbox id 32."

    def __init__(self, rule: str = "it has the wrong size") -> None:
        RelaycallError.__init__(self, rule)
        self.sentence = f"The envelope was not sent: {rule}."
