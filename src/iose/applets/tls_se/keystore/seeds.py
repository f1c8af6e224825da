# SPDX-License-Identifier: Apache-2.0
"""Commands on the four seeds: set, read, derive key pairs (BIP32), HMAC and AES under a seed."""

from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.key_pairs import KeySlot
from iose.applets.tls_se.application import ApplicationSession, Reply
from iose.applets.tls_se.keystore.bip32 import derive_private_key, is_path, master_key
from iose.applets.tls_se.keystore.commands import (
    ERROR,
    OK,
    Command,
    Payload,
    hex_reply,
    text_reply,
)
from iose.applets.tls_se.settings import CommandSet, Settings
from iose.applets.tls_se.state import KEY_SLOTS, ElementState, Tree
from iose.crypto.base import Curve, HashAlgorithm

SEED_LIMIT: Final = 64
SEED_LIMIT_2_18: Final = 32
NEW_SEED_SIZE: Final = 32
AES_KEY_SIZE: Final = 16
_MODE: Final = 0xF0
_BINARY: Final = 0x80
_PIPE: Final = 0x40
_SLOT: Final = 0x0F


class SeedCommands:
    """``t T v b k``, and ``h H A a`` of 2.18."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._context = context
        self._state = state
        is_short = state.profile.settings.commands is CommandSet.V2_18
        self._seed_limit = SEED_LIMIT_2_18 if is_short else SEED_LIMIT

    @staticmethod
    def table(settings: Settings) -> dict[str, Command]:
        """Return the commands of a set, by their letter."""
        table = {
            "t": Command(SeedCommands._set_seed),
            "T": Command(SeedCommands._set_seed),
            "v": Command(SeedCommands._seed),
            "b": Command(SeedCommands._derive),
            "k": Command(SeedCommands._derive),
        }
        if settings.has_extensions:
            table["h"] = Command(SeedCommands._hmac_sha256, Payload.MODAL, is_guest=True)
            table["H"] = Command(SeedCommands._hmac_sha512, Payload.MODAL, is_guest=True)
            table["A"] = Command(SeedCommands._encrypt, Payload.MODAL, is_guest=True)
            table["a"] = Command(SeedCommands._decrypt, Payload.MODAL, is_guest=True)
        return table

    def _set_seed(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        if index >= KEY_SLOTS:
            return ERROR
        seed = payload or self._context.rng.random_bytes(NEW_SEED_SIZE)
        root = master_key(self._context.crypto, seed) if len(seed) <= self._seed_limit else None
        self._state.set_tree(index, None if root is None else Tree(root, seed))
        return ERROR if root is None else OK

    def _seed(self, index: int, _payload: bytes, _session: ApplicationSession) -> Reply:
        tree = self._tree(index)
        if tree is None or self._state.key_slot(index).is_sealed:
            return ERROR
        return hex_reply(tree.seed)

    def _derive(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        tree = self._tree(index)
        if tree is None or not is_path(payload):
            return ERROR
        crypto = self._context.crypto
        private = derive_private_key(crypto, tree.root, payload)
        if private is None:
            return ERROR
        curve = Curve.SECP256K1
        sealed = self._state.key_slot(index).is_sealed
        slot = KeySlot(curve, crypto.public_key(curve, private), private, sealed)
        self._state.set_key_slot(index, slot)
        return OK

    def _hmac_sha256(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return self._hmac(index, payload, HashAlgorithm.SHA256)

    def _hmac_sha512(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        return self._hmac(index, payload, HashAlgorithm.SHA512)

    def _hmac(self, index: int, payload: bytes, algorithm: HashAlgorithm) -> Reply:
        tree = self._modal_tree(index)
        if tree is None:
            return ERROR
        messages = [payload]
        if index & _PIPE:
            size = algorithm.digest_size
            if not payload or len(payload) % size:
                return ERROR
            messages = [payload[i : i + size] for i in range(0, len(payload), size)]
        hmac = self._context.crypto.hmac
        macs = b"".join(hmac(algorithm, tree.seed, message) for message in messages)
        return _modal_reply(index, macs)

    def _encrypt(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        tree = self._aes_tree(index, payload)
        if tree is None:
            return ERROR
        encrypt = self._context.crypto.aes_encrypt_block
        return _modal_reply(index, encrypt(tree.seed[:AES_KEY_SIZE], payload))

    def _decrypt(self, index: int, payload: bytes, _session: ApplicationSession) -> Reply:
        tree = self._aes_tree(index, payload)
        if tree is None:
            return ERROR
        decrypt = self._context.crypto.aes_decrypt_block
        return _modal_reply(index, decrypt(tree.seed[:AES_KEY_SIZE], payload))

    def _aes_tree(self, index: int, payload: bytes) -> Tree | None:
        return self._modal_tree(index) if payload else None  # other sizes are a CryptoError

    def _modal_tree(self, index: int) -> Tree | None:
        if index & _MODE & ~(_BINARY | _PIPE):
            return None
        return self._tree(index & _SLOT)

    def _tree(self, index: int) -> Tree | None:
        return self._state.tree(index) if index < KEY_SLOTS else None


def _modal_reply(index: int, value: bytes) -> Reply:
    return text_reply(value) if index & _BINARY else hex_reply(value)
