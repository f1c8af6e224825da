# SPDX-License-Identifier: Apache-2.0
"""What a card says of itself to anybody: no keys are needed (GPCS 2.3.1 §11.3, §H).

Every object may be missing, and cards differ: one that cannot be read counts as missing, so that
a strange card is still shown as far as it goes.
"""

from dataclasses import dataclass
from typing import Final

from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.commands import get_data
from iose.globalplatform.data_objects import (
    CardCapability,
    CardData,
    KeyInformation,
    Tag,
    decode_key_template,
)
from iose.iso7816.batch import BatchStep
from iose.iso7816.status import StatusWord
from iose.iso7816.tlv import Tlv
from iose.transport.base import Connection
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

# fields of the production life cycle data and their sizes (GPCS 2.1.1 §D)
_PRODUCTION_FIELDS: Final = (
    ("fabricator", 2),
    ("type", 2),
    ("operating_system", 2),
    ("release_date", 2),
    ("release_level", 2),
    ("fabrication_date", 2),
    ("serial", 4),
    ("batch", 2),
    ("module_fabricator", 2),
    ("module_date", 2),
    ("manufacturer", 2),
    ("embedding_date", 2),
    ("prepersonaliser", 2),
    ("prepersonalisation_date", 2),
    ("prepersonalisation_equipment", 4),
    ("personaliser", 2),
    ("personalisation_date", 2),
    ("personalisation_equipment", 4),
)


@dataclass(frozen=True, slots=True)
class CardInformation:
    """What a card says of itself; None and empty values were not said.

    Attributes:
        production: Card production life cycle data by field, hex digits.
        issuer_number: Issuer identification number.
        card_number: Card image number.
        keys: Keys of the issuer security domain, without their values.
        data: Card recognition data.
        capabilities: What the card can do.
        sequence_counter: Of the secure channel.
    """

    production: dict[str, str]
    issuer_number: bytes | None
    card_number: bytes | None
    keys: tuple[KeyInformation, ...]
    data: CardData | None
    capabilities: CardCapability | None
    sequence_counter: int | None

    @property
    def protocols(self) -> tuple[ScpVariant, ...]:
        """Secure channel protocols the card announces."""
        return () if self.data is None else self.data.protocols


async def read_information(connection: Connection) -> CardInformation:
    """Return what the selected security domain says in clear.

    Raises:
        TransportError: No answer.
    """
    template = await _read(connection, Tag.KEY_INFORMATION)
    counter = await _read_value(connection, Tag.KEY_COUNTER)
    return CardInformation(
        production=decode_production(await _read_value(connection, Tag.PRODUCTION_DATA)),
        issuer_number=await _read_value(connection, Tag.ISSUER_IDENTIFICATION),
        card_number=await _read_value(connection, Tag.CARD_IMAGE),
        keys=_keys(template),
        data=_card_data(await _read(connection, Tag.CARD_DATA)),
        capabilities=_capabilities(await _read(connection, Tag.CARD_CAPABILITY)),
        sequence_counter=None if counter is None else int.from_bytes(counter, "big"),
    )


async def read_identity(connection: Connection, name: str) -> bytes:
    """Return what tells the card from others: its production data or numbers, else its name.

    Raises:
        TransportError: No answer.
    """
    production = await _read_value(connection, Tag.PRODUCTION_DATA)
    if production is not None and any(production):
        return production
    issuer = await _read_value(connection, Tag.ISSUER_IDENTIFICATION)
    number = await _read_value(connection, Tag.CARD_IMAGE)
    if issuer and number:
        return issuer + number
    return name.encode()


async def announced_variant(connection: Connection) -> ScpVariant | None:
    """Return the protocol the card announces, when it is one that we speak.

    Raises:
        TransportError: No answer.
    """
    data = _card_data(await _read(connection, Tag.CARD_DATA))
    supported = [one for one in ([] if data is None else data.protocols) if one.is_supported]
    return max(supported, key=lambda one: one.protocol, default=None)


def decode_production(value: bytes | None) -> dict[str, str]:
    """Return production life cycle data by field; nothing when they are of another size."""
    if value is None or len(value) != sum(size for _, size in _PRODUCTION_FIELDS):
        return {}
    reader = ByteReader(value)
    return {name: reader.read_bytes(size).hex().upper() for name, size in _PRODUCTION_FIELDS}


async def _read(connection: Connection, tag: int) -> bytes | None:
    """Return a data object with its tag, or None."""
    answer = (await connection.transmit_batch([BatchStep(get_data(tag), None)]))[0]
    return answer.data if answer.status == StatusWord.OK and answer.data else None


async def _read_value(connection: Connection, tag: int) -> bytes | None:
    data = await _read(connection, tag)
    if data is None:
        return None
    try:
        found = Tlv.decode(data)
    except DecodeError:
        return None
    return found.value if found.tag == tag else None


def _keys(data: bytes | None) -> tuple[KeyInformation, ...]:
    try:
        return () if data is None else decode_key_template(data)
    except DecodeError:
        return ()


def _card_data(data: bytes | None) -> CardData | None:
    try:
        return None if data is None else CardData.decode(data)
    except DecodeError:
        return None


def _capabilities(data: bytes | None) -> CardCapability | None:
    try:
        return None if data is None else CardCapability.decode(data)
    except DecodeError:
        return None
