# SPDX-License-Identifier: Apache-2.0
"""Finding the issuer security domain of a card that nothing is known of (GPCS 2.3.1 §11.9).

An empty SELECT finds it on most cards; where another application is selected by default, or an
empty SELECT is refused, the usual AIDs are tried.
"""

from typing import Final

from iose.client.card.errors import CardManagementError
from iose.globalplatform.data_objects import SelectTag
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import SHORT_LE_LIMIT, CommandApdu, ResponseApdu
from iose.iso7816.batch import BatchStep
from iose.iso7816.instructions import INS_SELECT, P1_BY_AID
from iose.iso7816.tlv import Tlv
from iose.transport.base import Connection
from iose.wire.errors import DecodeError

CARD_LOCKED: Final = 0x6283  # a warning: the domain is selected, and alone can be
ISSUER_DOMAINS: Final = (
    Aid.from_hex("A000000151000000"),  # GlobalPlatform 2.2 and later
    Aid.from_hex("A000000003000000"),  # Visa's, on cards of the 2.1 days
    Aid.from_hex("A0000000030000"),
    Aid.from_hex("A000000018434D00"),  # Gemalto
    Aid.from_hex("A0000000041000"),
)


async def find_issuer_domain(connection: Connection) -> Aid:
    """Return the AID of the issuer security domain, and leave it selected.

    Raises:
        CardManagementError: The card shows none.
        TransportError: No answer.
    """
    found = _domain_of(await select(connection, b""))
    if found is not None:
        return found
    for aid in ISSUER_DOMAINS:
        response = await select(connection, aid.value)
        if is_selected(response):
            return _aid_of(response) or aid
    raise CardManagementError(
        "the card shows no issuer security domain",
        hint="name it with --isd, if it has an AID of its own",
    )


async def select(connection: Connection, aid: bytes) -> ResponseApdu:
    """Return the drained answer to SELECT by AID, empty for the card's own choice.

    Raises:
        TransportError: No answer.
    """
    command = CommandApdu(0, INS_SELECT, P1_BY_AID, 0, aid, SHORT_LE_LIMIT)
    return (await connection.transmit_batch([BatchStep(command, None)]))[0]


def is_selected(response: ResponseApdu) -> bool:
    """Return whether an answer to SELECT means that the domain is selected (GPCS 2.3.1 §11.9.3)."""
    return response.status.is_success or response.status == CARD_LOCKED


def _domain_of(response: ResponseApdu) -> Aid | None:
    """Return the AID in the answer of a security domain; None for any other answer."""
    aid = _aid_of(response)
    if aid is None or not is_selected(response):
        return None
    return aid if aid in ISSUER_DOMAINS or _is_security_domain(response) else None


def _aid_of(response: ResponseApdu) -> Aid | None:
    try:
        for item in _template(response):
            if item.tag == SelectTag.NAME:
                return Aid(item.value)
    except DecodeError:
        pass  # an application may answer what it likes
    return None


def _is_security_domain(response: ResponseApdu) -> bool:
    try:
        inner = [
            child.tag
            for item in _template(response)
            if item.tag == SelectTag.PROPRIETARY_DATA
            for child in item.children()
        ]
    except DecodeError:
        return False
    return SelectTag.MANAGEMENT_DATA in inner or SelectTag.LONGEST_COMMAND_DATA in inner


def _template(response: ResponseApdu) -> tuple[Tlv, ...]:
    fci = Tlv.decode(response.data)
    return fci.children() if fci.tag == SelectTag.CONTROL_INFORMATION else ()
