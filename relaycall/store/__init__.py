"""Where secrets are kept: the operating system's keyring, or an encrypted vault file. Never plaintext."""

from relaycall.store.base import Store
from relaycall.store.opening import open_store
from relaycall.store.references import resolve_secret

__all__ = ["Store", "open_store", "resolve_secret"]
