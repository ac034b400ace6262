"""How a call sounds, as a number: the E-model (ITU-T G.107), reduced to what differs between two calls of ours.

    R = R0 - Idd - Ie,eff        MOS = 1 + 0.035 R + 7e-6 R (R - 60) (100 - R)

Idd is what delay costs (7-27 and 7-28 of G.107), Ie,eff what is missing costs (7-29). The other terms are at the
defaults of G.107, which make R0; echo is taken to be cancelled, so that the terms for it are 0. It is the narrowband
scale, on which 4.41 is the best.

Where each constant is from:
    R0, 93.2: G.107, all at default.
    Ie of Opus, 0: a choice of ours. Nothing is published; a codec of more than narrowband loses nothing on this scale.
    Bpl of Opus, 10: a choice of ours, by measurement, since nothing is published. With libopus at 32 kb/s, 20 ms,
        losses concealed as `media/playout.py` does it and 11 s of speech, narrowband PESQ (P.862.1) put back into the
        formula gave 7 to 17 at 1 to 30 % of random loss, with a median of 10.5. G.711 with concealment has 25.1
        (G.113); 4.3 is the default, and for codecs that conceal nothing.
    BurstR, at most 2: where G.107 says that the formula holds for any loss. PESQ did not find bursts of 60 ms worse
        than single losses; listeners do, which is why the term is here.
    26.5 ms for coding: the frame, and libopus' look-ahead, which is 312 samples.
"""

from __future__ import annotations

import math

R0 = 93.2
IE = 0.0
BPL = 10.0  # percent
MAX_BURST = 2.0
CODING_MS = 26.5

_NO_DELAY_MS = 100.0  # up to here a delay costs nothing


def mouth_to_ear_ms(rtt_ms: float, playout_delay_ms: float) -> float:
    """The delay from one person to the other, one way, as far as it is known.

    Args:
        rtt_ms: of the path, from client to client and back.
        playout_delay_ms: for how long the listener's side holds the sound back.
    """
    return max(0.0, rtt_ms) / 2 + max(0.0, playout_delay_ms) + CODING_MS


def rating(delay_ms: float, missing: float, burst: float = 1.0) -> float:
    """R, 0 to 93.2.

    Args:
        delay_ms: from mouth to ear.
        missing: share of the frames that were neither received nor recovered, 0 to 1.
        burst: mean length of the gaps over the one that random loss of as much would have; 1 to 2, else the nearest.
    """
    percent = 100 * min(max(missing, 0.0), 1.0)
    burst = min(max(burst, 1.0), MAX_BURST)
    equipment = IE + (95 - IE) * percent / (percent / burst + BPL)
    return max(0.0, R0 - _delay_impairment(delay_ms) - equipment)


def opinion(rating: float) -> float:
    """The mean opinion score for R (annex B of G.107), 1 to 4.5."""
    r = min(max(rating, 0.0), 100.0)
    return max(1.0, 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r))


def score(rtt_ms: float | None, playout_delay_ms: float, missing: float, burst: float = 1.0) -> float:
    """The mean opinion score that is expected of what is heard, 1 to 4.41.

    Args:
        rtt_ms: of the path; while it is unknown, it costs nothing.
        playout_delay_ms, missing, burst: as above.
    """
    return opinion(rating(mouth_to_ear_ms(rtt_ms or 0.0, playout_delay_ms), missing, burst))


def _delay_impairment(delay_ms: float) -> float:
    if delay_ms <= _NO_DELAY_MS:
        return 0.0
    x = math.log2(delay_ms / _NO_DELAY_MS)
    return 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)
