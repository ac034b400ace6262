"""What logs and reprs may show. Privacy lives in types: a secret cannot be printed by accident.

Model: str0m's `pii.rs`. The value comes out only by a call that is easy to search for: `reveal()`.
"""

from __future__ import annotations

import hmac


class Secret:
    """A secret text. `repr`, `str`, formatting and pickling never show it.

    Args:
        value: the secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._bytes(), other._bytes())

    def _bytes(self) -> bytes:
        return self._value.encode(errors="surrogatepass")  # an encoding error would quote the secret

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
