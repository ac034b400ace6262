"""What a call was like, when it is over: a summary for programs, a few lines for a terminal, a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from relaycall.call.report.facts import CallFacts
from relaycall.call.report.figures import Figures, amount, clock, figures_of, in_order, percent, short
from relaycall.call.report.naming import Naming
from relaycall.quality.history import Mark
from relaycall.quality.sample import Sample


@dataclass(frozen=True)
class CallReport:
    """A call that is over.

    Attributes:
        facts: what is known of it.
        samples: how it was from second to second; none if it was never connected.
        marks: what was remarkable meanwhile.
    """

    facts: CallFacts
    samples: Sequence[Sample] = field(default=(), repr=False)
    marks: Sequence[Mark] = field(default=(), repr=False)

    @cached_property
    def figures(self) -> Figures:
        """What the samples come to."""
        return figures_of(self._samples)

    @cached_property
    def _samples(self) -> list[Sample]:
        return in_order(self.samples)

    def summary(self, *, addresses: bool = False) -> dict[str, object]:
        """The figures, of types that JSON has. It names nobody.

        Args:
            addresses: name relays as they are configured, in place of "relay A".
        """
        facts = self.facts
        naming = Naming(facts, (), addresses=addresses)

        def relay(name: str) -> str:
            return name if addresses else naming.relay(name)

        return {
            "role": "caller" if facts.caller else "callee",
            "started_at": facts.started_at,
            "ended": facts.ended,
            "contact": facts.contact,
            "verified": facts.verified,
            "words_compared": facts.words_compared,
            "seconds": {name: getattr(facts, name) for name in ("ringing", "to_accept", "to_connected", "connected")},
            "relays": [
                {"relay": relay(one.name), "transport": one.transport, "shared": one.shared} for one in facts.relays
            ],
            "protect": facts.protect,
            "signaling": facts.signaling,
            "bytes": {"sent": facts.bytes_sent, "received": facts.bytes_received},
            "packets": {"sent": facts.packets_sent, "received": facts.packets_received},
            "theirs": asdict(facts.theirs),
            "mine": None if facts.mine is None else asdict(facts.mine),
            "heard": {"loss": facts.loss, "recovered": facts.recovered, "concealed": facts.concealed},
            "video": {"sent": facts.video_sent, "received": facts.video_received},
            "moves": [
                {
                    "at": at,
                    "old": relay(move.old),
                    "new": relay(move.new),
                    "failed": move.failed,
                    "gap_ms": move.gap_ms,
                    "lost": move.lost,
                }
                for at, move in facts.moves
            ],
            **asdict(self.figures),
        }

    def text(self) -> str:
        """A few lines for a terminal, without names and addresses."""
        facts, figures = self.facts, self.figures
        if facts.connected is None:
            from relaycall.call.report.page import how_it_ended

            return f"Not connected. {how_it_ended(facts)}"
        waits = ((facts.ringing, "of ringing"), (facts.to_connected, "of set-up"))
        after = " and ".join(f"{short(seconds)} {what}" for seconds, what in waits if seconds is not None)
        lines = [f"Connected for {clock(facts.connected)}{f' after {after}' if after else ''}."]
        if figures.rtt_ms is not None:
            rtt = figures.rtt_ms
            lines.append(f"Round trip {rtt.median:.0f} ms; 95 % below {rtt.p95:.0f}, at most {rtt.max:.0f}.")
        if facts.loss is not None:
            sent = "" if facts.loss_sent is None else f", {percent(facts.loss_sent)} of yours"
            lines.append(f"Lost: {percent(facts.loss)} of their sound{sent}.")
        if facts.recovered is not None and facts.concealed is not None:
            as_sent = max(0.0, 1 - facts.recovered - facts.concealed)
            lines.append(
                f"Heard: {percent(as_sent)} as it was sent, {percent(facts.recovered)} restored, "
                f"{percent(facts.concealed)} made up."
            )
        if figures.score is not None:
            levels = ", ".join(f"{level} {percent(share)}" for level, share in figures.levels.items() if share)
            lines.append(f"Opinion score {figures.score.median:.1f} of 4.5: {levels}.")
        for at, move in facts.moves:
            why = "the path failed" if move.failed else "to a better path"
            lines.append(f"Moved at {clock(at)}, {why}: {move.gap_ms:.0f} ms without a new packet, {move.lost} lost.")
        lines.append(f"{amount(facts.bytes_sent)} sent, {amount(facts.bytes_received)} received.")
        return "\n".join(lines)

    def html(self, *, addresses: bool = False) -> str:
        """A page, complete in itself: plots, and who could see what. It loads nothing, and runs no script.

        It has the other side's name, and the time of the call.

        Args:
            addresses: show the hosts of the relays and of the signaling server. Neither side's own address is in it,
                since no report has it.
        """
        from relaycall.call.report.page import render  # here: few need it, and it takes a while to load

        return render(self.facts, self._samples, self.marks, self.figures, addresses=addresses)
