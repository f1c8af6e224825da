# SPDX-License-Identifier: Apache-2.0
"""PUT KEY: a whole key set, wrapped, with check values (GPCS 2.3.1 §11.8, Amendment D 1.2 §7.2).

The channel wraps and opens keys; it is handed in as a function. Keys stay out of errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from iose.crypto.base import CryptoProvider
from iose.globalplatform.commands import CLASS, Ins
from iose.globalplatform.keys import (
    CHECK_VALUE_SIZE,
    DES3_KEY_SIZE,
    KeySet,
    KeyType,
    check_value,
)
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu
from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

MULTIPLE_KEYS: Final = 0x80  # P2
FIRST_KEY_ID: Final = 1
KEYS_OF_A_SET: Final = 3
VERSION_MAX: Final = 0x7F  # the eighth bit of P1 chains commands, and is refused


class KeyTypeCode(IntEnum):
    """Key types on the wire (GPCS 2.3.1 §11.1.8)."""

    DES = 0x80
    AES = 0x88


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One key as PUT KEY carries it.

    Attributes:
        key_type: Its cipher.
        size: Its size before it was padded and wrapped, in bytes.
        wrapped: Encrypted by the key-encryption key.
        check_value: 3 bytes, or none: then nothing shows that it arrived whole.
    """

    key_type: KeyType
    size: int
    wrapped: bytes
    check_value: bytes

    def write(self, writer: ByteWriter) -> None:
        """Append the key data field (GPCS 2.3.1 §11.8.2.3, Amendment D 1.2 §7.2).

        Raises:
            LocalProtocolError: The key is too long.
        """
        if self.key_type is KeyType.DES3:
            writer.write_uint8(KeyTypeCode.DES)
            writer.write_opaque(self.wrapped, 1)
        else:
            writer.write_uint8(KeyTypeCode.AES)
            writer.write_opaque(bytes((self.size,)) + self.wrapped, 1)
        writer.write_opaque(self.check_value, 1)

    @classmethod
    def read(cls, reader: ByteReader) -> "WrappedKey":
        """Return the next key data field.

        Raises:
            DecodeError: It is malformed, or of another type than DES and AES.
        """
        offset = reader.offset
        code = reader.read_uint8()
        body = reader.read_vector(1, low=1)
        match code:
            case KeyTypeCode.DES:
                key_type, size = KeyType.DES3, body.remaining
            case KeyTypeCode.AES:
                key_type, size = KeyType.AES, body.read_uint8()
            case _:
                raise DecodeError(f"a key of type {code:02X}", offset=offset)
        wrapped = body.read_rest()
        if size not in key_type.sizes or not size <= len(wrapped) <= size + DES3_KEY_SIZE // 2:
            raise DecodeError(f"a key of {size} bytes, wrapped {len(wrapped)}", offset=offset)
        value = reader.read_opaque(1)
        if len(value) not in (0, CHECK_VALUE_SIZE):
            raise DecodeError(f"a check value of {len(value)} bytes", offset=offset)
        return cls(key_type, size, wrapped, value)


@dataclass(frozen=True, slots=True)
class PutKey:
    """Adds or replaces a key set.

    Attributes:
        version: Key version number of the new set, 1 to 127.
        keys: Encryption, MAC and key-encryption key.
        replaces: Version of the set that goes; 0 adds one.
    """

    version: int
    keys: tuple[WrappedKey, ...]
    replaces: int = 0

    @classmethod
    def for_keys(
        cls,
        crypto: CryptoProvider,
        keys: KeySet,
        encrypt_key: Callable[[bytes], bytes],
        *,
        replaces: int = 0,
    ) -> "PutKey":
        """Return what brings ``keys`` to a card; ``encrypt_key`` is that of the channel.

        Raises:
            LocalProtocolError: A version is out of range.
        """
        if not 1 <= keys.version <= VERSION_MAX or not 0 <= replaces <= VERSION_MAX:
            raise LocalProtocolError(f"key versions on a card are 1 to {VERSION_MAX}")
        wrapped = tuple(
            WrappedKey(
                keys.key_type, len(key), encrypt_key(key), check_value(crypto, key, keys.key_type)
            )
            for key in (keys.enc, keys.mac, keys.dek)
        )
        return cls(keys.version, wrapped, replaces)

    def to_command(self) -> CommandApdu:
        """Return the command.

        Raises:
            LocalProtocolError: The keys are too long.
        """
        writer = ByteWriter()
        writer.write_uint8(self.version)
        for key in self.keys:
            key.write(writer)
        p2 = FIRST_KEY_ID | MULTIPLE_KEYS
        return CommandApdu(CLASS, Ins.PUT_KEY, self.replaces, p2, writer.to_bytes(), SHORT_LE_LIMIT)

    @classmethod
    def from_command(cls, command: CommandApdu) -> "PutKey":
        """Return what a PUT KEY brings: one whole set, keys 1 to 3, in one command.

        Raises:
            DecodeError: It is anything else; an offset of 2 or 3 points at P1 or P2.
        """
        if command.p1 > VERSION_MAX:
            raise DecodeError("a key set comes in one command", offset=2)
        if command.p2 != FIRST_KEY_ID | MULTIPLE_KEYS:
            raise DecodeError(f"P2 {command.p2:02X} names no whole key set", offset=3)
        reader = ByteReader(command.data)
        version = reader.read_uint8()
        if not 1 <= version <= VERSION_MAX:
            raise DecodeError(f"key version {version:02X}")
        keys = tuple(WrappedKey.read(reader) for _ in range(KEYS_OF_A_SET))
        reader.finish()
        if len({(key.key_type, key.size) for key in keys}) != 1:
            raise DecodeError("keys of different types or sizes")
        return cls(version, keys, command.p1)

    def open(self, crypto: CryptoProvider, decrypt_key: Callable[[bytes], bytes]) -> KeySet:
        """Return the keys, their check values found right; ``decrypt_key`` is the channel's.

        Raises:
            DecodeError: A check value is missing or wrong, or a key is not whole blocks.
        """
        found = []
        for one in self.keys:
            key = decrypt_key(one.wrapped)[: one.size]
            expected = check_value(crypto, key, one.key_type)
            if not crypto.constant_time_equal(one.check_value, expected):
                raise DecodeError("the check value of a key is missing or wrong")
            found.append(key)
        enc, mac, dek = found
        return KeySet(self.version, enc, mac, dek, self.keys[0].key_type)

    def answer(self) -> bytes:
        """Return what the card answers: version, then check values (GPCS 2.3.1 §11.8.3.1)."""
        return bytes((self.version,)) + b"".join(key.check_value for key in self.keys)
