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
    """The server is at one of its limits: connections, mailboxes, envelopes or nameplates."""

    code = "signaling_busy"
    template = "The signaling server{server} is full."
    next_step = "Try again later, or use another server."


class SignalingRateLimited(SignalingServerError):
    """Too much was sent or asked for in a short time.

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


class PhoneClosed(SignalingClosed):
    """A phone was used before it was opened, or after it was closed."""

    code = "phone_closed"
    template = "The phone is not open."
    next_step = "Use it within its `async with` block."


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


class NameplateUnknown(SignalingServerError):
    """Nobody has that nameplate: it was used or released, is older than 10 minutes, or was never given out."""

    code = "nameplate_unknown"
    template = "The signaling server{server} knows no code with that number."
    next_step = "It was used, has expired, or was mistyped: make a new code."


class EnvelopeRefused(SignalingError):
    """An envelope or a mailbox id of another size than they have. `EnvelopeRefused(which rule)`."""

    code = "envelope_refused"
    next_step = "An envelope has 4096 bytes, a mailbox id 32."

    def __init__(self, rule: str = "it has the wrong size") -> None:
        RelaycallError.__init__(self, rule)
        self.sentence = f"The envelope was not sent: {rule}."


class TextRefused(SignalingError):
    """What was pasted is no text of ours, or is not taken. `TextRefused(which rule)`; the text is not repeated."""

    code = "text_refused"
    next_step = "Copy the whole text, from RELAYCALL- to :RELAYCALL, and paste it again."

    def __init__(self, rule: str = "it is no text of relaycall") -> None:
        RelaycallError.__init__(self, rule)
        self.sentence = f"The text was not taken: {rule}."


class TextTruncated(TextRefused):
    """A part of the text is missing. `TextTruncated(where)`.

    Attributes:
        where: "beginning", "middle" or "end".
    """

    code = "text_truncated"

    def __init__(self, where: str = "end") -> None:
        super().__init__(f"its {where} is missing")
        self.args = (where,)
        self.where = where


class TextAltered(TextRefused):
    """Something in the text was changed or added on the way."""

    code = "text_altered"
    next_step = "Have it sent again as plain text, as a file, or as a QR code."

    def __init__(self, rule: str = "something in it was changed or added") -> None:
        super().__init__(rule)


class TextOfOtherKind(TextRefused):
    """The text is one of ours, but for another purpose. `TextOfOtherKind(found, wanted)`."""

    code = "text_of_other_kind"
    next_step = "Paste it where it belongs, and here the one that is asked for."

    def __init__(self, found: str = "something else", wanted: str = "what is asked for") -> None:
        super().__init__(f"it is {found}, not {wanted}")
        self.args = (found, wanted)


class TextOfOtherVersion(TextRefused):
    """The text was made by a version of relaycall that writes it in another way."""

    code = "text_of_other_version"
    next_step = "Use the same, current version of relaycall on both sides."

    def __init__(self, rule: str = "another version of relaycall has made it") -> None:
        super().__init__(rule)


class TextStale(TextRefused):
    """The text is too old, or the two clocks differ by more than two minutes."""

    code = "text_stale"
    next_step = "Have a new one made, and paste it within ten minutes; if it is new, check both clocks."

    def __init__(self, rule: str = "it is too old, or one of the two clocks is wrong") -> None:
        super().__init__(rule)


class TextNotForUs(TextRefused):
    """The text is for another mailbox."""

    code = "text_not_for_us"
    next_step = "Ask for the one that was made for you. If your keys are new, give your new contact card first."

    def __init__(self, rule: str = "it was made for somebody else, or for keys that you had before") -> None:
        super().__init__(rule)


class TextIsOurs(TextRefused):
    """The text was made here, and is pasted where it came from."""

    code = "text_is_ours"
    next_step = "Send it to the other side, and paste the one that they send you."

    def __init__(self, rule: str = "it is your own, for the other side") -> None:
        super().__init__(rule)


class TextOutOfOrder(TextRefused):
    """The text is not its sender's next one. The same one again is taken."""

    code = "text_out_of_order"
    next_step = "Paste the earlier one first. If there is none, paste this one again: then it is taken."

    def __init__(self, rule: str = "its sender has made another one before, which was not pasted") -> None:
        super().__init__(rule)
