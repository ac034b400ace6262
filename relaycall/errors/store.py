"""Why a kept secret cannot be read or written."""

from __future__ import annotations

from relaycall.errors.base import RelaycallError


class StoreError(RelaycallError):
    """The keyring or the vault cannot be used. `StoreError(what is wrong, what to do)`; both have a default."""

    code = "store"
    exit_code = 6
    sentence = "The store of secrets cannot be used."
    next_step = "Give the secret as env:NAME or file:PATH instead."

    def __init__(self, sentence: str | None = None, next_step: str | None = None) -> None:
        super().__init__(sentence, next_step)
        self.sentence = sentence or self.sentence
        self.next_step = next_step or self.next_step


class StoreUnavailable(StoreError):
    """There is no keyring, or only one that keeps nothing or keeps it unencrypted."""

    code = "store_unavailable"
    sentence = "This machine has no keyring that keeps secrets encrypted."
    next_step = "Set RELAYCALL_VAULT_PASSPHRASE to use the encrypted vault, or use env:NAME or file:PATH."


class StoreLocked(StoreError):
    """The keyring is locked, and nobody unlocked it."""

    code = "store_locked"
    sentence = "The keyring is locked."
    next_step = "Unlock it and try again, set RELAYCALL_VAULT_PASSPHRASE (the vault), or use env:NAME or file:PATH."


class StoreTimeout(StoreError):
    """The keyring, or another program that holds the vault, did not answer in time."""

    code = "store_timeout"
    sentence = "The keyring did not answer in time."
    next_step = "Unlock it if it asks, set RELAYCALL_VAULT_PASSPHRASE (the vault), or use env:NAME or file:PATH."


class SecretMissing(StoreError):
    """Nothing is kept under that name."""

    code = "secret_missing"
    sentence = "Nothing is kept under that name."
    next_step = "See the names with relaycall credentials list, and add one with relaycall credentials set."


class VaultRefused(StoreError):
    """The vault does not open: the passphrase is wrong or the file was altered, which cannot be told apart."""

    code = "vault_refused"
    sentence = "The vault does not open: wrong passphrase or altered file."
    next_step = "Check the passphrase; if it is right, restore the file from a copy. It was left as it is."


class VaultDamaged(StoreError):
    """The file is not a vault, is cut short, or asks for more memory than a vault may."""

    code = "vault_damaged"
    sentence = "The vault is damaged."
    next_step = "Restore it from a copy, or move it away to start a new one. It was left as it is."


class VaultExposed(StoreError):
    """The vault is a link, belongs to another user, or others may read or replace it."""

    code = "vault_exposed"
    sentence = "Others may read or replace the vault."
    next_step = "Make it your own regular file, with chmod 600, in a folder that only you can write to."
