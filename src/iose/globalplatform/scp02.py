# SPDX-License-Identifier: Apache-2.0
"""One session of SCP02: session keys, cryptograms, the chain of encrypted MACs.

GPCS 2.3.1 §E with i=15 and i=55: three keys, explicit initiation, MAC over the plain command with
its length adjusted. Answers are never protected. For cards that know no better: triple DES.
"""

from typing import Final

from iose.crypto.base import CryptoProvider
from iose.globalplatform.channel import (
    SCP02_CHALLENGE_SIZE,
    SecureChannelError,
    SecurityLevel,
    authenticated_header,
    pad,
    plain_class,
    secured_class,
    unpad,
)
from iose.globalplatform.keys import KeySet
from iose.iso7816.apdu import SHORT_DATA_LIMIT, SHORT_LE_LIMIT, CommandApdu, ResponseApdu
from iose.wire.errors import DecodeError, LocalProtocolError

BLOCK_SIZE: Final = 8
MAC_SIZE: Final = 8
# derivation constants, GPCS 2.3.1 §E.4.1
S_MAC: Final = b"\x01\x01"
S_ENC: Final = b"\x01\x82"
S_DEK: Final = b"\x01\x81"
_ZERO_IV: Final = bytes(BLOCK_SIZE)


def card_challenge(crypto: CryptoProvider, keys: KeySet, counter: bytes, aid: bytes) -> bytes:
    """Return the pseudo-random challenge of a card (GPCS 2.3.1 §E.4.2.3)."""
    mac_key = _session_key(crypto, keys.mac, S_MAC, counter)
    return retail_mac(crypto, mac_key, _ZERO_IV, aid)[:SCP02_CHALLENGE_SIZE]


def retail_mac(crypto: CryptoProvider, key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return single DES over all blocks but the last, triple DES there (GPCS 2.3.1 §B.1.2.2)."""
    padded = pad(data, BLOCK_SIZE)
    single = key[:BLOCK_SIZE] * 2  # equal halves: triple DES is then single DES
    head = padded[:-BLOCK_SIZE]
    chained = crypto.des3_cbc_encrypt(single, iv, head)[-BLOCK_SIZE:] if head else iv
    return crypto.des3_cbc_encrypt(key, chained, padded[-BLOCK_SIZE:])


class Scp02Session:
    """Keys and MAC chain of one session, the same at both ends."""

    def __init__(
        self,
        crypto: CryptoProvider,
        keys: KeySet,
        host_challenge: bytes,
        counter: bytes,
        card_challenge: bytes,
    ) -> None:
        self.level = SecurityLevel(0)
        self._crypto = crypto
        self._host_challenge = host_challenge
        self._card_part = counter + card_challenge
        self._enc = _session_key(crypto, keys.enc, S_ENC, counter)
        self._mac = _session_key(crypto, keys.mac, S_MAC, counter)
        self._dek = _session_key(crypto, keys.dek, S_DEK, counter)
        self._last_mac: bytes | None = None

    @property
    def card_cryptogram(self) -> bytes:
        """What proves the card's keys (GPCS 2.3.1 §E.4.2.1)."""
        return self._cryptogram(self._host_challenge + self._card_part)

    @property
    def host_cryptogram(self) -> bytes:
        """What proves the host's keys (GPCS 2.3.1 §E.4.2.2)."""
        return self._cryptogram(self._card_part + self._host_challenge)

    @property
    def max_command_data(self) -> int:
        """Data of the longest command that stays short once protected, in bytes."""
        room = SHORT_DATA_LIMIT - MAC_SIZE
        is_padded = self.level & SecurityLevel.C_DECRYPTION
        return room // BLOCK_SIZE * BLOCK_SIZE - 1 if is_padded else room

    @property
    def max_response_data(self) -> int:
        """Data of the longest short answer, in bytes."""
        return SHORT_LE_LIMIT

    def sign_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command with its MAC, not encrypted (GPCS 2.3.1 §E.4.4).

        Raises:
            LocalProtocolError: The class byte is of a secured command, or of a channel above 3.
        """
        cla = secured_class(command)
        self._last_mac = self._command_mac(command, command.data)
        data = command.data + self._last_mac
        return CommandApdu(cla, command.ins, command.p1, command.p2, data, command.le)

    def verify_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command without its MAC (GPCS 2.3.1 §E.4.4).

        Raises:
            SecureChannelError: The MAC is missing or wrong.
        """
        return self._open_command(command, is_encrypted=False)

    def protect_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command as ``level`` asks (GPCS 2.3.1 §E.4.4 and §E.4.6).

        Raises:
            LocalProtocolError: The class byte is of a secured command, or of a channel above 3.
        """
        signed = self.sign_command(command)
        if not (command.data and self.level & SecurityLevel.C_DECRYPTION):
            return signed
        padded = pad(command.data, BLOCK_SIZE)
        data = self._crypto.des3_cbc_encrypt(self._enc, _ZERO_IV, padded)
        data += signed.data[-MAC_SIZE:]
        return CommandApdu(signed.cla, signed.ins, signed.p1, signed.p2, data, signed.le)

    def unprotect_command(self, command: CommandApdu) -> CommandApdu:
        """Return what ``protect_command`` was given (GPCS 2.3.1 §E.4.4 and §E.4.6).

        Raises:
            SecureChannelError: MAC or padding are missing or wrong; which, is not said.
        """
        is_encrypted = bool(self.level & SecurityLevel.C_DECRYPTION)
        return self._open_command(command, is_encrypted=is_encrypted)

    def protect_response(self, response: ResponseApdu) -> ResponseApdu:
        """Return the answer as it is."""
        return response

    def unprotect_response(self, response: ResponseApdu) -> ResponseApdu:
        """Return the answer as it is."""
        return response

    def encrypt_key(self, key: bytes) -> bytes:
        """Return a key wrapped by the session DEK (GPCS 2.3.1 §E.4.7).

        Raises:
            LocalProtocolError: The key is not whole blocks.
        """
        if len(key) % BLOCK_SIZE:
            raise LocalProtocolError(f"a key of {len(key)} bytes does not fit blocks of 8")
        return self._crypto.des3_ecb_encrypt(self._dek, key)

    def decrypt_key(self, data: bytes) -> bytes:
        """Return a wrapped key (GPCS 2.3.1 §E.4.7).

        Raises:
            DecodeError: Not whole blocks.
        """
        if not data or len(data) % BLOCK_SIZE:
            raise DecodeError(f"a wrapped key has whole blocks, found {len(data)} bytes")
        blocks = (data[start : start + BLOCK_SIZE] for start in range(0, len(data), BLOCK_SIZE))
        return b"".join(
            self._crypto.des3_cbc_decrypt(self._dek, _ZERO_IV, block) for block in blocks
        )

    def _open_command(self, command: CommandApdu, *, is_encrypted: bool) -> CommandApdu:
        cla = plain_class(command)
        if len(command.data) < MAC_SIZE:
            raise SecureChannelError("a command without a MAC")
        data, mac = command.data[:-MAC_SIZE], command.data[-MAC_SIZE:]
        is_padded = True
        if is_encrypted and data:
            data, is_padded = self._decrypt(data)
        # the MAC is computed whatever the padding, so that its time tells nothing of it
        expected = self._command_mac(command, data)
        if not self._crypto.constant_time_equal(mac, expected) or not is_padded:
            raise SecureChannelError("the MAC of the command is wrong")
        self._last_mac = expected
        return CommandApdu(cla, command.ins, command.p1, command.p2, data, command.le)

    def _decrypt(self, data: bytes) -> tuple[bytes, bool]:
        if len(data) % BLOCK_SIZE:
            return data, False
        padded = self._crypto.des3_cbc_decrypt(self._enc, _ZERO_IV, data)
        plain = unpad(padded, BLOCK_SIZE)
        return (padded, False) if plain is None else (plain, True)

    def _command_mac(self, command: CommandApdu, data: bytes) -> bytes:
        iv = _ZERO_IV
        if self._last_mac is not None:
            single = self._mac[:BLOCK_SIZE] * 2
            iv = self._crypto.des3_ecb_encrypt(single, self._last_mac)
        lc = bytes(((len(data) + MAC_SIZE) & 0xFF,))
        return retail_mac(self._crypto, self._mac, iv, authenticated_header(command) + lc + data)

    def _cryptogram(self, challenges: bytes) -> bytes:
        padded = pad(challenges, BLOCK_SIZE)
        return self._crypto.des3_cbc_encrypt(self._enc, _ZERO_IV, padded)[-MAC_SIZE:]


def _session_key(crypto: CryptoProvider, key: bytes, constant: bytes, counter: bytes) -> bytes:
    derivation = constant + counter + bytes(12)
    return crypto.des3_cbc_encrypt(key, _ZERO_IV, derivation)
