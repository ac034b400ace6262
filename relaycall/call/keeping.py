"""What a call keeps of itself, for its report."""

from __future__ import annotations

import time
from dataclasses import replace

from relaycall.call.events import CallEvent, RelayChanged
from relaycall.call.line import Line, Party
from relaycall.call.media_call import REPORT_AFTER, MediaCall
from relaycall.call.report.course import Course
from relaycall.call.report.facts import RelayFact, signaling_of
from relaycall.call.report.report import CallReport
from relaycall.call.state import CallState
from relaycall.relays.server import RelayServer

RUNNING = "running"  # how it ended, before it has
MAX_PEER_HOSTS = 32  # the other side can name others without end; those that are ours, too, always count


class Keeper:
    """Of one call.

    Args:
        now: the loop's time.
    """

    def __init__(self, now: float) -> None:
        self._course = Course(now, time.time())
        self._relays: dict[str, tuple[RelayServer, str]] = {}  # by name, with the host that it relays from
        self._peer_hosts: dict[str, None] = {}

    def enter(self, state: CallState, media: MediaCall | None, now: float) -> None:
        """The call is in another state."""
        self._course.enter(state, now)
        self._note(media)

    def happened(self, event: CallEvent, media: MediaCall | None, now: float) -> None:
        """Something did that may concern its relays."""
        if isinstance(event, RelayChanged):
            self._course.moved(event, now - REPORT_AFTER)
        self._note(media)

    def report(
        self, party: Party, line: Line, media: MediaCall | None, now: float, *, caller: bool, ended: str
    ) -> CallReport:
        """What it was like so far.

        Args:
            now: the loop's time.
            caller: whether this side placed it, after all.
            ended: why it is over, or `RUNNING`.
        """
        self._note(media)
        kind, host = signaling_of(line.url)
        facts = replace(
            self._course.facts(now, caller=caller, ended=ended),
            party=party.name,
            contact=party.contact is not None,
            verified=party.contact is not None and party.contact.verified,
            relays=tuple(self._fact(server, relayed) for server, relayed in self._relays.values()),
            peer_hosts=tuple(self._peer_hosts),
            protect=line.options.protect,
            signaling=kind,
            signaling_host=host,
        )
        watch = media.watch if media is not None else None
        if watch is None:
            return CallReport(facts)
        reading = watch.reading
        facts = replace(
            facts,
            bytes_sent=reading.bytes_sent,
            bytes_received=reading.bytes_received,
            packets_sent=reading.packets_sent,
            packets_received=reading.packets_received,
            theirs=reading.theirs,
            mine=reading.mine,
            video_sent=reading.video_bytes_sent > 0,
            video_received=reading.video_bytes_received > 0,
        )
        return CallReport(facts, watch.history.samples, watch.history.marks)

    def _fact(self, server: RelayServer, relayed: str) -> RelayFact:
        return RelayFact.of(server, shared=relayed in self._peer_hosts if self._peer_hosts else None)

    def _note(self, media: MediaCall | None) -> None:
        """The relays of now: one that dies meanwhile was there all the same."""
        if media is None:
            return
        for server, relayed in media.relays:
            self._relays.setdefault(server.name, (server, relayed))
        if media.session is not None:
            ours = {relayed for _, relayed in self._relays.values()}
            for candidate in media.connection.remote_candidates:
                if len(self._peer_hosts) < MAX_PEER_HOSTS or candidate.host in ours:
                    self._peer_hosts.setdefault(candidate.host)
