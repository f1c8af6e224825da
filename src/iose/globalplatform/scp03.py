# SPDX-License-Identifier: Apache-2.0
"""One session of SCP03: session keys, cryptograms, MAC chain and encryption counter.

GPCS Amendment D 1.2, modes S8 and S16. ``host`` and ``card`` use it alike; it keeps no record of
which command may come next.
"""

from typing import Final

from iose.crypto.base import CryptoProvider
from iose.globalplatform.channel import (
    ScpVariant,
    SecureChannelError,
    SecurityLevel,
    authenticated_header,
    is_protected,
    pad,
    plain_class,
    secured_class,
    unpad,
)
from iose.globalplatform.keys import KeySet, derive_by_kdf
from iose.iso7816.apdu import (
    SHORT_DATA_LIMIT,
    SHORT_LE_LIMIT,
    CommandApdu,
    ResponseApdu,
)
from iose.wire.errors import DecodeError

BLOCK_SIZE: Final = 16
# derivation constants, Amendment D 1.2 §4.1.5
CARD_CRYPTOGRAM: Final = 0x00
HOST_CRYPTOGRAM: Final = 0x01
CARD_CHALLENGE: Final = 0x02
S_ENC: Final = 0x04
S_MAC: Final = 0x06
S_RMAC: Final = 0x07
RESPONSE_COUNTER: Final = b"\x80"  # first byte of the counter block of answers, §6.2.7
_ZERO_IV: Final = bytes(BLOCK_SIZE)


def card_challenge(
    crypto: CryptoProvider, keys: KeySet, variant: ScpVariant, counter: bytes, aid: bytes
) -> bytes:
    """Return the pseudo-random challenge of a card (Amendment D 1.2 §6.2.2.1)."""
    context = counter + aid
    return derive_by_kdf(crypto, keys.enc, CARD_CHALLENGE, context, variant.card_challenge_size)


class Scp03Session:
    """Keys, chain and counter of one session, the same at both ends."""

    def __init__(
        self,
        crypto: CryptoProvider,
        variant: ScpVariant,
        keys: KeySet,
        host_challenge: bytes,
        card_challenge: bytes,
    ) -> None:
        self.level = SecurityLevel(0)
        self._crypto = crypto
        self._mac_size = variant.mac_size
        self._dek = keys.dek
        self._context = context = host_challenge + card_challenge
        self._enc = derive_by_kdf(crypto, keys.enc, S_ENC, context, len(keys.enc))
        self._mac = derive_by_kdf(crypto, keys.mac, S_MAC, context, len(keys.mac))
        self._rmac = derive_by_kdf(crypto, keys.mac, S_RMAC, context, len(keys.mac))
        self._chaining = bytes(BLOCK_SIZE)
        self._counter = 0

    @property
    def card_cryptogram(self) -> bytes:
        """What proves the card's keys (Amendment D 1.2 §6.2.2.2)."""
        return self._cryptogram(CARD_CRYPTOGRAM)

    @property
    def host_cryptogram(self) -> bytes:
        """What proves the host's keys (Amendment D 1.2 §6.2.2.3)."""
        return self._cryptogram(HOST_CRYPTOGRAM)

    @property
    def max_command_data(self) -> int:
        """Data of the longest command that stays short once protected, in bytes."""
        room = SHORT_DATA_LIMIT - self._mac_size
        return _longest_padded(room) if self.level & SecurityLevel.C_DECRYPTION else room

    @property
    def max_response_data(self) -> int:
        """Data of the longest answer that stays short once protected, in bytes."""
        if not self.level & SecurityLevel.R_MAC:
            return SHORT_LE_LIMIT
        room = SHORT_LE_LIMIT - self._mac_size
        return _longest_padded(room) if self.level & SecurityLevel.R_ENCRYPTION else room

    def sign_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command with its MAC, not encrypted (Amendment D 1.2 §6.2.4).

        Raises:
            LocalProtocolError: The class byte is of a secured command, or of a channel above 3.
        """
        cla = secured_class(command)
        return self._append_mac(cla, command, command.data)

    def verify_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command without its MAC (Amendment D 1.2 §6.2.4).

        Raises:
            SecureChannelError: The MAC is missing or wrong.
        """
        return CommandApdu(
            plain_class(command),
            command.ins,
            command.p1,
            command.p2,
            self._strip_mac(command),
            command.le,
        )

    def protect_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command as ``level`` asks (Amendment D 1.2 §6.2.4 and §6.2.6).

        Raises:
            LocalProtocolError: The class byte is of a secured command, or of a channel above 3.
        """
        cla = secured_class(command)
        self._counter += 1
        data = command.data
        if data and self.level & SecurityLevel.C_DECRYPTION:
            iv = self._counter_block(b"")
            data = self._crypto.aes_cbc_encrypt(self._enc, iv, pad(data, BLOCK_SIZE))
        return self._append_mac(cla, command, data)

    def unprotect_command(self, command: CommandApdu) -> CommandApdu:
        """Return what ``protect_command`` was given (Amendment D 1.2 §6.2.4 and §6.2.6).

        Raises:
            SecureChannelError: MAC or padding are missing or wrong.
        """
        cla = plain_class(command)
        data = self._strip_mac(command)
        self._counter += 1
        if data and self.level & SecurityLevel.C_DECRYPTION:
            data = self._decrypt(data, self._counter_block(b""))
        return CommandApdu(cla, command.ins, command.p1, command.p2, data, command.le)

    def protect_response(self, response: ResponseApdu) -> ResponseApdu:
        """Return the answer to the last command as ``level`` asks (Amendment D 1.2 §6.2.5, §6.2.7).

        An error loses its data, and is not protected.
        """
        if not self.level & SecurityLevel.R_MAC:
            return response
        if not is_protected(response.status):
            return ResponseApdu(b"", response.status)
        data = response.data
        if data and self.level & SecurityLevel.R_ENCRYPTION:
            iv = self._counter_block(RESPONSE_COUNTER)
            data = self._crypto.aes_cbc_encrypt(self._enc, iv, pad(data, BLOCK_SIZE))
        mac = self._response_mac(ResponseApdu(data, response.status))
        return ResponseApdu(data + mac, response.status)

    def unprotect_response(self, response: ResponseApdu) -> ResponseApdu:
        """Return what ``protect_response`` was given (Amendment D 1.2 §6.2.5, §6.2.7).

        Raises:
            SecureChannelError: MAC or padding are missing or wrong, an error has data, or a status
                that carries no MAC claims success, such as 61xx or 9001: anyone could have made it.
        """
        if not self.level & SecurityLevel.R_MAC:
            return response
        if not is_protected(response.status):
            if response.data or response.status.is_success:
                raise SecureChannelError(f"{response.status} is more than an error without a MAC")
            return response
        if len(response.data) < self._mac_size:
            raise SecureChannelError("an answer without a MAC")
        data, mac = response.data[: -self._mac_size], response.data[-self._mac_size :]
        expected = self._response_mac(ResponseApdu(data, response.status))
        if not self._crypto.constant_time_equal(mac, expected):
            raise SecureChannelError("the MAC of the answer is wrong")
        if data and self.level & SecurityLevel.R_ENCRYPTION:
            data = self._decrypt(data, self._counter_block(RESPONSE_COUNTER))
        return ResponseApdu(data, response.status)

    def encrypt_key(self, key: bytes) -> bytes:
        """Return a key wrapped by the static DEK, zeros after a key of 24 bytes (§6.2.8)."""
        padded = key + bytes(-len(key) % BLOCK_SIZE)
        return self._crypto.aes_cbc_encrypt(self._dek, _ZERO_IV, padded)

    def decrypt_key(self, data: bytes) -> bytes:
        """Return a wrapped key, padding included (Amendment D 1.2 §6.2.8).

        Raises:
            DecodeError: Not whole blocks.
        """
        if not data or len(data) % BLOCK_SIZE:
            raise DecodeError(f"a wrapped key has whole blocks, found {len(data)} bytes")
        return self._crypto.aes_cbc_decrypt(self._dek, _ZERO_IV, data)

    def _cryptogram(self, constant: int) -> bytes:
        return derive_by_kdf(self._crypto, self._mac, constant, self._context, self._mac_size)

    def _append_mac(self, cla: int, command: CommandApdu, data: bytes) -> CommandApdu:
        size = len(data) + self._mac_size
        self._chaining = self._command_mac(command, size, data)
        data += self._chaining[: self._mac_size]
        return CommandApdu(cla, command.ins, command.p1, command.p2, data, command.le)

    def _strip_mac(self, command: CommandApdu) -> bytes:
        if len(command.data) < self._mac_size:
            raise SecureChannelError("a command without a MAC")
        data, mac = command.data[: -self._mac_size], command.data[-self._mac_size :]
        chaining = self._command_mac(command, len(command.data), data)
        if not self._crypto.constant_time_equal(mac, chaining[: self._mac_size]):
            raise SecureChannelError("the MAC of the command is wrong")
        self._chaining = chaining
        return data

    def _command_mac(self, command: CommandApdu, size: int, data: bytes) -> bytes:
        is_extended = size > SHORT_DATA_LIMIT or (command.le or 0) > SHORT_LE_LIMIT
        lc = b"\x00" + size.to_bytes(2, "big") if is_extended else bytes((size,))
        message = self._chaining + authenticated_header(command) + lc + data
        return self._crypto.aes_cmac(self._mac, message)

    def _response_mac(self, response: ResponseApdu) -> bytes:
        message = self._chaining + response.encode()
        return self._crypto.aes_cmac(self._rmac, message)[: self._mac_size]

    def _counter_block(self, prefix: bytes) -> bytes:
        counter = self._counter.to_bytes(BLOCK_SIZE - len(prefix), "big")
        return self._crypto.aes_encrypt_block(self._enc, prefix + counter)

    def _decrypt(self, data: bytes, iv: bytes) -> bytes:
        plain = None
        if not len(data) % BLOCK_SIZE:
            plain = unpad(self._crypto.aes_cbc_decrypt(self._enc, iv, data), BLOCK_SIZE)
        if plain is None:
            raise SecureChannelError("what was encrypted is not padded as it should be")
        return plain


def _longest_padded(room: int) -> int:
    return room // BLOCK_SIZE * BLOCK_SIZE - 1
