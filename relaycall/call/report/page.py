"""The page of a report: one file of HTML, with nothing from elsewhere, no script, and every text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from email.utils import formatdate
from html import escape

from relaycall.call.report.charts import Happening, draw_all, happenings
from relaycall.call.report.facts import CallFacts
from relaycall.call.report.figures import Figures, amount, clock, percent, short
from relaycall.call.report.naming import Naming, visible
from relaycall.call.report.sight import COLUMNS, Cell, Sees, remarks, sight
from relaycall.call.report.style import STYLE
from relaycall.call.state import EndReason
from relaycall.quality.history import Mark
from relaycall.quality.sample import PeerReport, Sample

MAX_TOLD = 200  # rows of a table; of more, the first
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_SIGNS = {Sees.YES: "●", Sees.PARTLY: "◐", Sees.NO: "○", Sees.UNKNOWN: "?"}
_ENDS = {  # for the caller, for the callee
    EndReason.HUNG_UP: ("You hung up.",) * 2,
    EndReason.PEER_HUNG_UP: ("They hung up.",) * 2,
    EndReason.DECLINED: ("They declined.", "You declined."),
    EndReason.BUSY: ("They were in another call.",) * 2,
    EndReason.UNANSWERED: ("Nobody answered.",) * 2,
    EndReason.CANCELLED: ("You gave up before it was answered.", "They gave up before it was answered."),
    EndReason.ELSEWHERE: ("It was taken on another device of yours.",) * 2,
    EndReason.SETUP_TIMEOUT: ("No path carried sound in time.",) * 2,
}
_SIGNALING = {
    "wss": "WebSocket, with TLS",
    "ws": "WebSocket, without TLS",
    "https": "HTTP, with TLS",
    "http": "HTTP, without TLS",
    "memory": "within one program",
    "manual": "by hand",
    "other": "a way of your own",
}


def how_it_ended(facts: CallFacts) -> str:
    """A sentence for the reason."""
    if facts.ended in _ENDS:
        return _ENDS[EndReason(facts.ended)][0 if facts.caller else 1]
    return f"It ended by an error: {facts.ended}." if facts.ended.isidentifier() else "It ended by an error."


def render(
    facts: CallFacts, samples: Sequence[Sample], marks: Sequence[Mark], figures: Figures, *, addresses: bool
) -> str:
    """The page.

    Args:
        samples: in order of time.
        marks: what was remarkable.
        figures: of these samples.
        addresses: show the hosts of relays and signaling server.
    """
    used = {one.relay for one in samples if one.relay} | {
        name for _, move in facts.moves for name in (move.old, move.new)
    }
    naming = Naming(facts, sorted(used), addresses=addresses)
    told = happenings(facts, marks, naming)
    title = f"A call with {naming.clean(facts.party)}" if facts.party else "A call"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<header><h1>{_title(facts, naming)}</h1><p>{escape(_opening(facts))}</p></header>",
        *_tiles(facts, figures),
        *_sight_table(facts, used, naming),
        *_plots(facts, samples, told, naming),
        *_happenings_table(told),
        *_moves_table(facts, naming),
        *_details(facts, naming),
        *_footer(addresses),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _title(facts: CallFacts, naming: Naming) -> str:
    return f"A call with <bdi>{escape(naming.clean(facts.party))}</bdi>" if facts.party else "A call"


def _opening(facts: CallFacts) -> str:
    began = formatdate(facts.started_at, usegmt=True).replace("GMT", "UTC")
    placed = "You called" if facts.caller else "They called"
    lasted = "It was never connected" if facts.connected is None else f"It lasted {_lasted(facts.connected)}"
    return f"{placed} on {began}. {lasted}. {how_it_ended(facts)}"


def _lasted(seconds: float) -> str:
    if seconds < 60:  # cut off and not rounded, as a clock shows it
        return f"{int(seconds)} second{'' if int(seconds) == 1 else 's'}"
    return f"{clock(seconds)} {'minutes' if seconds < 3600 else 'hours'}"


# --- the figures ------------------------------------------------------------------------------------------------------


def _tiles(facts: CallFacts, figures: Figures) -> Iterator[str]:
    found: list[tuple[str, str, str]] = []
    if figures.score is not None:
        shares = ", ".join(f"{level} {percent(share)}" for level, share in figures.levels.items() if share)
        found.append(("what you heard", f"{figures.score.median:.1f} of 4.5", shares))
    if figures.rtt_ms is not None:
        rtt = figures.rtt_ms
        found.append(("round trip", f"{rtt.median:.0f} ms", f"95 % below {rtt.p95:.0f}, at most {rtt.max:.0f}"))
    if facts.loss is not None:
        sent = "" if facts.loss_sent is None else f"{percent(facts.loss_sent)} on the way to them"
        found.append(("lost on the way to you", percent(facts.loss), sent))
    if facts.recovered is not None and facts.concealed is not None:
        as_sent = percent(max(0.0, 1 - facts.recovered - facts.concealed))
        rest = f"{percent(facts.recovered)} restored, {percent(facts.concealed)} made up"
        found.append(("heard as it was sent", as_sent, rest))
    if facts.connected is not None:
        moves = len(facts.moves)
        gap = f"longest gap {max(move.gap_ms for _, move in facts.moves):.0f} ms" if moves else ""
        found.append(("moves to another path", str(moves), gap))
        passed = amount(facts.bytes_sent + facts.bytes_received)
        found.append(("over the relays", passed, f"{amount(facts.bytes_sent)} of it sent"))
    if found:
        yield '<section class="tiles" aria-label="In short">'
        for name, value, more in found:
            yield (
                f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b>'
                f"<small>{escape(more)}</small></div>"
            )
        yield "</section>"


# --- who could see what -----------------------------------------------------------------------------------------------


def _sight_table(facts: CallFacts, used: set[str], naming: Naming) -> Iterator[str]:
    yield '<section><h2>Who could see what</h2><table class="sight"><thead><tr><th scope="col">who</th>'
    yield "".join(f'<th scope="col">{column}</th>' for column in COLUMNS) + "</tr></thead><tbody>"
    for row in sight(facts, used, naming):
        cells = "".join(_cell(column, cell) for column, cell in zip(COLUMNS, row.cells, strict=True))
        yield f'<tr><th scope="row">{escape(row.who)}<small>{escape(row.note)}</small></th>{cells}</tr>'
    yield "</tbody></table>"
    for remark in remarks(facts):
        yield f"<p>{escape(remark)}</p>"
    yield (
        '<p class="soft">● could see it, ◐ partly, ○ could not, ? this side cannot know. It is what the threat model '
        "of relaycall (docs/threat-model.md) says, for this call: what they could see, not what they looked at or "
        "kept.</p>"
    )
    yield "</section>"


def _cell(column: str, cell: Cell) -> str:
    how = f" <small>{escape(cell.how)}</small>" if cell.how else ""
    answer = f'<span class="answer">{_SIGNS[cell.sees]} {cell.sees}</span>'
    return f'<td class="{cell.sees}" data-of="{column}">{answer}{how}</td>'


# --- over time --------------------------------------------------------------------------------------------------------


def _plots(facts: CallFacts, samples: Sequence[Sample], told: Sequence[Happening], naming: Naming) -> Iterator[str]:
    until = max([facts.connected or 0.0, *(one.at for one in samples)])
    yield "<section><h2>From second to second</h2>"
    if samples and until > 0:
        yield '<p class="soft">Time is in minutes and seconds since there was sound.</p>'
        yield from draw_all(samples, [one for one in told[:MAX_TOLD] if one.at <= until], naming, until)
    else:
        yield "<p>Nothing was measured: the call was not connected, or for less than a second.</p>"
    yield "</section>"


def _happenings_table(told: Sequence[Happening]) -> Iterator[str]:
    if told:
        yield '<section><h2>What happened</h2><table><thead><tr><th scope="col">no.</th><th scope="col">at</th>'
        yield '<th scope="col">what</th></tr></thead><tbody>'
        for one in told[:MAX_TOLD]:
            number = str(one.number) if one.number else ""
            yield f'<tr><td class="number">{number}</td><td class="time">{clock(one.at)}</td>'
            yield f"<td>{escape(one.text)}</td></tr>"
        yield f"</tbody></table>{_more(len(told))}</section>"


def _moves_table(facts: CallFacts, naming: Naming) -> Iterator[str]:
    if facts.moves:
        columns = ("at", "from", "to", "longest gap in their sound", "packets lost")
        heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
        yield f"<section><h2>What moving cost</h2><table><thead><tr>{heads}</tr></thead><tbody>"
        for at, move in facts.moves[:MAX_TOLD]:
            texts = (naming.relay(move.old), naming.relay(move.new), f"{move.gap_ms:.0f} ms", str(move.lost))
            cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
            yield f'<tr><td class="time">{clock(at)}</td>{cells}</tr>'
        yield f'</tbody></table>{_more(len(facts.moves))}<p class="soft">20 ms is no gap: a packet holds as much.</p>'
        yield "</section>"


def _more(count: int) -> str:
    return f"<p>And {count - MAX_TOLD} more.</p>" if count > MAX_TOLD else ""


# --- details ----------------------------------------------------------------------------------------------------------


def _details(facts: CallFacts, naming: Naming) -> Iterator[str]:
    yield "<section><h2>Details</h2><dl>"
    for name, value in _detail_rows(facts, naming):
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl></section>"


def _detail_rows(facts: CallFacts, naming: Naming) -> Iterator[tuple[str, str]]:
    known = "a stranger"
    if facts.contact:
        known = "a contact, verified" if facts.verified else "a contact, not verified"
    yield "the other side", known
    words = {None: "not known whether they were compared", True: "the same on both sides", False: "they differed"}
    yield "spoken words", words[facts.words_compared]
    waits = (("it rang", facts.ringing), ("accepted after", facts.to_accept), ("then sound after", facts.to_connected))
    yield from ((name, short(seconds)) for name, seconds in waits if seconds is not None)
    for relay in facts.relays:
        operator = f", {naming.clean(relay.operator)}" if relay.operator else ""
        yield (
            f"your relay {naming.letter(relay.name)}",
            f"over {relay.transport.upper()}{operator}{_host(relay.name, naming)}",
        )
    if naming.addresses and facts.peer_hosts:
        yield "their relays", ", ".join(visible(host) for host in facts.peer_hosts)
    yield "sound over two paths", "always" if facts.protect else "only while one was in doubt"
    host = f" ({visible(facts.signaling_host)})" if naming.addresses and facts.signaling_host else ""
    yield "signaling", _SIGNALING[facts.signaling] + host
    if facts.connected is not None:
        yield "sent", f"{amount(facts.bytes_sent)} in {facts.packets_sent} packets"
        yield "received", f"{amount(facts.bytes_received)} in {facts.packets_received} packets"
        yield "their sound", _counted(facts.theirs)
        if facts.mine is not None:
            yield "your sound, there", _counted(facts.mine)
        sent, received = facts.video_sent, facts.video_received
        yield (
            "video",
            {(True, True): "both ways", (True, False): "sent", (False, True): "received"}.get((sent, received), "none"),
        )


def _counted(got: PeerReport) -> str:
    return f"{got.received} packets, {got.lost} lost; {got.recovered} frames restored, {got.concealed} made up"


def _host(name: str, naming: Naming) -> str:
    return f", {visible(name)}" if naming.addresses else ""


def _footer(addresses: bool) -> Iterator[str]:
    what = (
        "It has the hosts of relays and servers, since that was asked for."
        if addresses
        else "It has no address in it, and no name of a relay or server."
    )
    yield (
        f'<footer class="soft"><p>Made by relaycall on this machine; nothing is loaded from elsewhere. {what} '
        "It does say with whom you talked, when and how long: keep it where you keep such things. The time of day is "
        "UTC, since a time zone tells where somebody is.</p></footer>"
    )
