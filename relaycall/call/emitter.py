"""Events for the users of phones and calls."""

from __future__ import annotations

import logging
from typing import Any

from pyee.asyncio import AsyncIOEventEmitter

logger = logging.getLogger(__name__)


class Emitter(AsyncIOEventEmitter):
    """Emits events. What a handler raises is logged, and told to nobody."""

    def emit(self, event: str, *args: Any, **kwargs: Any) -> bool:
        if event == "error":  # a handler raised args[0]
            logger.error("an event handler failed", exc_info=args[0])
            return True
        return super().emit(event, *args, **kwargs)
