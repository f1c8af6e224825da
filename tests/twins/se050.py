# SPDX-License-Identifier: Apache-2.0
"""The object store of an SE050, as far as an identity module needs it (tls-im.md §4.1).

Keys are written, made, read, deleted and used by commands of CLA 80 on data objects; what an object
holds is never told, but for the public half of a pair.
"""

import os

from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError

AID = bytes.fromhex("A0000003965453000000010300000000")
VERSION = bytes.fromhex("0307023FFF010B")  # what SELECT answers: version, features
WRONG_DATA, NOT_ALLOWED, NOT_FOUND = 0x6A80, 0x6985, 0x6A82
WRONG_CLASS, WRONG_PARAMETERS = 0x6E00, 0x6A86
P256, SHA256_HMAC, SHA256_HKDF, SHA256_ECDSA = b"\x03", b"\x19", b"\x04", b"\x21"
SHA256 = HashAlgorithm.SHA256
CRYPTO = PycaCrypto()


class Refusal(Exception):  # noqa: N818
    """A status word other than 9000."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


class SystemRng:
    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


class Objects:
    """Keys by their identifiers; those written with INS bit 80 are gone after a reset."""

    def __init__(self) -> None:
        self.hmac: dict[bytes, bytes] = {}
        self.private: dict[bytes, bytes] = {}
        self.public: dict[bytes, bytes] = {}
        self.transient: set[bytes] = set()

    def delete(self, name: bytes) -> bool:
        self.transient.discard(name)
        kinds = (self.hmac, self.private, self.public)
        return any([kind.pop(name, None) is not None for kind in kinds])  # noqa: C419  # of all

    def forget(self) -> None:
        for name in tuple(self.transient):
            self.delete(name)


class Se050:
    """The chip: its applet and its objects.

    Attributes:
        historical_bytes: What its ATR says.
    """

    historical_bytes = b"JCOP4 ATPO"

    def __init__(self) -> None:
        self._objects = Objects()
        self._is_selected = False

    def restart(self) -> None:
        """Lose power."""
        self._is_selected = False
        self._objects.forget()

    def process(self, command: bytes) -> bytes:
        """Return the answer to one command."""
        try:
            asked = CommandApdu.decode(command)
            answer = ResponseApdu(self._do(asked))
        except Refusal as refusal:
            answer = ResponseApdu(status=StatusWord(refusal.status))
        except (DecodeError, CryptoError):
            answer = ResponseApdu(status=StatusWord(WRONG_DATA))
        return answer.encode()

    def _do(self, asked: CommandApdu) -> bytes:
        if (asked.cla, asked.ins, asked.p1) == (0, 0xA4, 4):
            self._is_selected = asked.data == AID
            if not self._is_selected:
                raise Refusal(NOT_FOUND)
            return VERSION
        if not self._is_selected or asked.cla != 0x80:
            raise Refusal(WRONG_CLASS)
        fields = {one.tag: one.value for one in Tlv.decode_all(asked.data)}
        is_transient = bool(asked.ins & 0x80)
        match asked.ins & 0x7F, asked.p1, asked.p2:
            case 1, 0x05 | 0x41 | 0x21 | 0x61, 0:
                return self._write(asked.p1, fields, is_transient=is_transient)
            case 2, 0, 0:
                return _value(self._object(self._objects.public, fields))
            case 4, 0, 0x28:
                if not self._objects.delete(_field(fields, 0x41)):
                    raise Refusal(NOT_ALLOWED)
                return b""
            case 4, 0, 0x49:
                return _value(os.urandom(int.from_bytes(_field(fields, 0x41), "big")))
            case 3, _, _:
                return _value(self._compute(asked.p1, asked.p2, fields))
        raise Refusal(WRONG_PARAMETERS)

    def _write(self, kind: int, fields: dict[int, bytes], *, is_transient: bool) -> bytes:
        name = _field(fields, 0x41)
        if len(name) != 4 or (kind != 0x05 and _field(fields, 0x42) != P256):
            raise Refusal(WRONG_DATA)
        objects = self._objects
        if kind == 0x05:
            objects.hmac[name] = _field(fields, 0x43)
        elif kind == 0x21:
            CRYPTO.check_public_key(Curve.SECP256R1, _field(fields, 0x44))
            objects.public[name] = fields[0x44]
        else:
            private = (
                CRYPTO.generate_private_key(Curve.SECP256R1, SystemRng())
                if kind == 0x61
                else _field(fields, 0x43)
            )
            objects.public[name] = CRYPTO.public_key(Curve.SECP256R1, private)
            objects.private[name] = private
        if is_transient:
            objects.transient.add(name)
        return b""

    def _compute(self, p1: int, p2: int, fields: dict[int, bytes]) -> bytes:
        objects = self._objects
        match p1, p2:
            case 0x0D, 0x45 if fields.get(0x42) == SHA256_HMAC:
                return CRYPTO.hmac(SHA256, self._object(objects.hmac, fields), fields[0x43])
            case 0x01, 0x0F:
                private = self._object(objects.private, fields)
                return CRYPTO.ecdh(Curve.SECP256R1, private, _field(fields, 0x42))
            case 0x0C, 0x09 if fields.get(0x42) == SHA256_ECDSA:
                private = self._object(objects.private, fields)
                return CRYPTO.ecdsa_sign(Curve.SECP256R1, private, _field(fields, 0x43))
            case 0x00, 0x2D if fields.get(0x42) == SHA256_HKDF:
                return _hkdf(self._object(objects.hmac, fields), fields)
        raise Refusal(WRONG_DATA)

    def _object(self, kind: dict[bytes, bytes], fields: dict[int, bytes]) -> bytes:
        found = kind.get(_field(fields, 0x41))
        if found is None:
            raise Refusal(NOT_ALLOWED)
        return found


def _hkdf(key: bytes, fields: dict[int, bytes]) -> bytes:
    """Extract and expand (RFC 5869): of a PSK with a salt of zeros, the extract is the ESK."""
    secret = CRYPTO.hmac(SHA256, fields.get(0x43) or bytes(32), key)
    size = int.from_bytes(_field(fields, 0x45), "big")
    output = block = b""
    while len(output) < size:
        block = CRYPTO.hmac(
            SHA256, secret, block + fields.get(0x44, b"") + bytes((len(output) // 32 + 1,))
        )
        output += block
    return output[:size]


def _field(fields: dict[int, bytes], tag: int) -> bytes:
    if tag not in fields:
        raise Refusal(WRONG_DATA)
    return fields[tag]


def _value(data: bytes) -> bytes:
    return Tlv(0x41, data).encode()
