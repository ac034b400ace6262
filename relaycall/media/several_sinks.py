"""What is heard, to several places at once."""

from __future__ import annotations

import contextlib
import logging

from av import AudioFrame

from relaycall.media.audio import AudioSink

logger = logging.getLogger(__name__)


class SeveralSinks:
    """A sink that gives what is heard to each of several. One that raises is given no more."""

    def __init__(self, *sinks: AudioSink) -> None:
        self._sinks = sinks
        self._working = list(sinks)

    def write(self, frame: AudioFrame) -> None:
        for sink in list(self._working):
            try:
                sink.write(frame)
            except Exception as error:  # it may be anybody's
                self._working.remove(sink)
                logger.warning("a sink raised %s and is given no more", type(error).__name__)

    def close(self) -> None:
        """Close all of them, those that failed included."""
        for sink in self._sinks:
            with contextlib.suppress(Exception):
                sink.close()
