# SPDX-License-Identifier: Apache-2.0
"""An SE050 as identity module: its two HMAC keys, and how they come into it (tls-im.md §4.1).

The chip needs no applet of ours: an HMAC under one of two stored keys is the binder, under the
other the handshake secret. It is asked without a PIN: who can reach its bus can use the keys.
"""

from typing import Final

from iose.client.errors import ModuleError
from iose.client.module_link import ModuleLink
from iose.client.module_place import SE050_AID, SECRET_SIZE
from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu
from iose.iso7816.instructions import INS_SELECT, P1_BY_AID
from iose.iso7816.status import StatusWord
from iose.iso7816.tlv import Tlv
from iose.tls.key_schedule import Hkdf, derive_psk_secrets
from iose.transport.base import Reader
from iose.wire.errors import DecodeError

BINDER_KEY: Final = 0x000000F0
DERIVED_SECRET: Final = 0x000000D0
_CLA: Final = 0x80
_INS_WRITE: Final = 0x01
_INS_CRYPTO: Final = 0x03
_P1_HMAC_KEY: Final = 0x05
_P1_MAC: Final = 0x0D
_P2_DEFAULT: Final = 0x00
_P2_ONE_SHOT: Final = 0x45
_TAG_1, _TAG_2, _TAG_3 = 0x41, 0x42, 0x43
_HMAC_SHA256: Final = 0x19
_ID_SIZE: Final = 4
_HINTS: Final = {
    StatusWord.NOT_FOUND: "is it an SE050, with its own applet?",
    StatusWord.CONDITIONS_NOT_SATISFIED: "has it a PSK? iose credentials provision gives it one",
}


class Se050Module:
    """A module in the objects of an SE050 (``ModuleSession``).

    Args:
        reader: Where the chip is.
        timeout_s: Time for each step.
    """

    def __init__(self, reader: Reader, *, timeout_s: float = 30.0) -> None:
        self._link = ModuleLink(reader, timeout_s, what="chip", hints=_HINTS)

    async def open(self) -> None:
        """Reset the chip and select its applet.

        Raises:
            ModuleError: The chip or its applet is not there.
        """
        await self._link.connect()
        try:
            select = CommandApdu(0, INS_SELECT, P1_BY_AID, 0, SE050_AID.value, le=SHORT_LE_LIMIT)
            await self._link.ask(select, "does not let its applet be selected")
        except BaseException:
            await self.close()
            raise

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            ModuleError: The chip is gone, or refuses.
        """
        return await self._hmac(BINDER_KEY, transcript_hash)

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            ModuleError: The chip is gone, or refuses.
        """
        return await self._hmac(DERIVED_SECRET, shared_secret)

    async def provision(self, psk: bytes) -> None:
        """Store what handshakes need of a PSK, in place of what was there; not the PSK itself.

        Raises:
            ModuleError: The chip is gone, or refuses.
        """
        secrets = derive_psk_secrets(Hkdf(PycaCrypto(), HashAlgorithm.SHA256), psk)
        await self._store(DERIVED_SECRET, secrets.derived_secret)
        await self._store(BINDER_KEY, secrets.binder_finished_key)

    async def close(self) -> None:
        """Let the chip go."""
        await self._link.close()

    async def _store(self, identifier: int, key: bytes) -> None:
        data = _object(identifier) + Tlv(_TAG_3, key).encode()
        command = CommandApdu(_CLA, _INS_WRITE, _P1_HMAC_KEY, _P2_DEFAULT, data)
        await self._link.ask(command, "refuses to store a key")

    async def _hmac(self, identifier: int, value: bytes) -> bytes:
        data = _object(identifier) + Tlv(_TAG_2, bytes((_HMAC_SHA256,))).encode()
        data += Tlv(_TAG_3, value).encode()
        command = CommandApdu(_CLA, _INS_CRYPTO, _P1_MAC, _P2_ONE_SHOT, data, le=SHORT_LE_LIMIT)
        answer = await self._link.ask(command, "refuses to compute")
        try:
            result = Tlv.decode(answer)
        except DecodeError:
            result = None
        if result is None or result.tag != _TAG_1 or len(result.value) != SECRET_SIZE:
            raise ModuleError(
                f"{self._link.name}: expected an object of {SECRET_SIZE} bytes of the chip"
            )
        return result.value


def _object(identifier: int) -> bytes:
    return Tlv(_TAG_1, identifier.to_bytes(_ID_SIZE, "big")).encode()
