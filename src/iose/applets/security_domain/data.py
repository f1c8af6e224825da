# SPDX-License-Identifier: Apache-2.0
"""GET DATA, and what STORE DATA changes of it (GPCS 2.3.1 §11.3, §11.11).

All of it may be read by anyone, in a channel or not; nothing here is secret.
"""

from typing import Final

from iose.applets.security_domain.state import DomainState, Name
from iose.globalplatform.data_objects import (
    CardCapability,
    CardData,
    KeyInformation,
    LoadFileHash,
    Tag,
    encode_key_template,
)
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError

DIVERSIFICATION_DATA: Final = 0xCF
NUMBER_LIMIT: Final = 64
HASHES: Final = (LoadFileHash.SHA256, LoadFileHash.SHA384, LoadFileHash.SHA512)
# Card production life cycle data, 42 bytes: we have no fabricator and no dates; the serial number
# is the element's own, after fabricator, type, three of the operating system and a date.
_BEFORE_SERIAL: Final = bytes(12)
_AFTER_SERIAL: Final = bytes(26)
_STORED: Final[dict[int, str]] = {
    Tag.ISSUER_IDENTIFICATION: Name.ISSUER_NUMBER,
    Tag.CARD_IMAGE: Name.CARD_NUMBER,
}
_NAMES: Final[dict[int, str]] = {**_STORED, DIVERSIFICATION_DATA: Name.DIVERSIFICATION_DATA}


class DomainData:
    """What a security domain says of itself."""

    def __init__(self, state: DomainState) -> None:
        self._state = state

    def get(self, command: CommandApdu) -> ResponseApdu:
        """Return one data object, its tag included; P1 and P2 are the tag.

        Raises:
            StatusWordError: 6A88, there is none of that tag.
        """
        tag = command.p1 << 8 | command.p2
        data = self._object(tag)
        if data is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND, f"no object {tag:04X}")
        return ResponseApdu(data)

    def receive(self, block: bytes, *, is_last: bool) -> None:
        """Take the issuer's or the card's number, as STORE DATA brings them.

        Raises:
            StatusWordError: 6A80, not these data objects, or too long; nothing is changed.
        """
        del is_last  # every block stands for itself
        try:
            objects = Tlv.decode_all(block)
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_DATA) from None
        for one in objects:
            if one.tag not in _STORED or not 1 <= len(one.value) <= NUMBER_LIMIT:
                raise StatusWordError(StatusWord.WRONG_DATA)
        for one in objects:
            self._state.store.put(_STORED[one.tag], one.value)

    def _object(self, tag: int) -> bytes | None:
        match tag:
            case Tag.CARD_DATA:
                return CardData((self._state.variant,)).encode()
            case Tag.CARD_CAPABILITY:
                return self._capability().encode()
            case Tag.KEY_INFORMATION:
                sets = self._state.keys.sets
                return encode_key_template(
                    one for keys in sets for one in KeyInformation.of_set(keys)
                )
            case _:
                value = self._value(tag)
                return Tlv(tag, value).encode() if value else None

    def _capability(self) -> CardCapability:
        granted = Privilege.DEFAULT_SELECTED
        return CardCapability((self._state.variant,), application_privileges=granted, hashes=HASHES)

    def _value(self, tag: int) -> bytes:
        state = self._state
        if tag == Tag.PRODUCTION_DATA:
            return _BEFORE_SERIAL + state.text(Name.SERIAL) + _AFTER_SERIAL
        if tag == Tag.KEY_COUNTER:
            size = state.variant.counter_size
            counter = state.counter(state.keys.sets[0].version)
            return min(counter, (1 << 8 * size) - 1).to_bytes(size, "big")
        return state.text(_NAMES[tag]) if tag in _NAMES else b""
