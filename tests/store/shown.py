"""Everything an error lets out, for tests that look for a secret in it."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import relaycall

_LIBRARY = str(Path(relaycall.__file__).parent)


def shown(error: BaseException) -> str:
    """Text, repr, pickle, and the traceback with causes and contexts, and with the locals of the library's frames."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    found = [repr(error), str(error), pickle.dumps(error).decode("latin-1")]
    links: list[traceback.TracebackException | None] = [told]
    while links:
        one = links.pop()
        if one is not None:
            found += one.format_exception_only()
            found += [repr(frame.locals) for frame in one.stack if frame.filename.startswith(_LIBRARY)]
            links += [one.__cause__, one.__context__]
    return "\n".join(found)
