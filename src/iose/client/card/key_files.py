# SPDX-License-Identifier: Apache-2.0
"""Keys of a card's ISD in JSON, as ``iose element secrets`` and ``iose card put-key`` write them.

Nothing is written here: whoever owns the file does that, durably, before a card gets the keys.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from iose.client.card.errors import CardManagementError
from iose.globalplatform.channel import SCP02, SCP03, ScpVariant
from iose.globalplatform.keys import ANY_VERSION, DEMO_KEYS, Diversification, KeySet, KeyType
from iose.wire.errors import DecodeError

FILE_SIZE_LIMIT: Final = 65_536  # some fields of text
KEY_FIELDS: Final = ("isd_enc", "isd_mac", "isd_dek")
VERSION_FIELD: Final = "isd_key_version"
PROTOCOL_FIELD: Final = "isd_scp"
OPTIONS_FIELD: Final = "isd_scp_i"
DIVERSIFICATION_FIELD: Final = "isd_diversification"
DEFAULT_OPTIONS: Final = {SCP02: 0x15, SCP03: 0x70}  # i, where a file names the protocol alone
HINT: Final = "a key file is made by 'iose element secrets NAME --out FILE'"


@dataclass(frozen=True, slots=True)
class CardKeys:
    """What an administrator knows of a card's keys.

    Attributes:
        enc: Key of cryptograms and encryption, or its master.
        mac: Key of MACs, or its master.
        dek: Key that wraps keys, or its master.
        version: Key version number; 0 lets the card choose.
        variant: Protocol the card is known to speak; None takes the card's word.
        diversification: How the keys of one card follow from these.
    """

    enc: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    dek: bytes = field(repr=False)
    version: int = ANY_VERSION
    variant: ScpVariant | None = None
    diversification: Diversification = Diversification.NONE

    @property
    def is_demo(self) -> bool:
        """Whether these are the published keys."""
        return self.key_set(KeyType.AES).is_demo

    def used(
        self, *, version: int | None = None, diversification: Diversification = Diversification.NONE
    ) -> "CardKeys":
        """Return the same keys, used as told; None and NONE leave what is known."""
        method = self.diversification
        if diversification is not Diversification.NONE:
            method = diversification
        return replace(
            self,
            version=self.version if version is None else version,
            diversification=method,
        )

    def key_set(self, key_type: KeyType) -> KeySet:
        """Return the keys, not diversified, for a cipher.

        Raises:
            CardManagementError: They do not fit it.
        """
        try:
            return KeySet(self.version, self.enc, self.mac, self.dek, key_type)
        except DecodeError as error:
            raise CardManagementError(str(error)) from None  # the cause must not show keys


PUBLISHED_KEYS: Final = CardKeys(DEMO_KEYS.enc, DEMO_KEYS.mac, DEMO_KEYS.dek)


def read_key_document(text: bytes) -> CardKeys:
    """Return the keys in a JSON document; other fields of it are left alone.

    Raises:
        CardManagementError: Not such a document; nothing of its content is repeated.
    """
    keys = None
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            keys = _keys(document)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # the error would quote the file
    if keys is None:
        raise CardManagementError("the key file does not hold the keys of a card", hint=HINT)
    keys.key_set(KeyType.AES if keys.variant is None else keys.variant.key_type)
    return keys


def key_document(keys: CardKeys, variant: ScpVariant) -> dict[str, str]:
    """Return the fields of a key file."""
    fields = {
        VERSION_FIELD: f"{keys.version:02X}",
        PROTOCOL_FIELD: f"{variant.protocol:02X}",
        OPTIONS_FIELD: f"{variant.i:02X}",
        "isd_enc": keys.enc.hex(),
        "isd_mac": keys.mac.hex(),
        "isd_dek": keys.dek.hex(),
    }
    if keys.diversification is not Diversification.NONE:
        fields[DIVERSIFICATION_FIELD] = keys.diversification.value
    return fields


def _keys(document: Mapping[str, Any]) -> CardKeys:
    enc, mac, dek = (bytes.fromhex(document[name]) for name in KEY_FIELDS)
    variant = None
    if PROTOCOL_FIELD in document:
        i = document.get(OPTIONS_FIELD)
        protocol = int(document[PROTOCOL_FIELD], 16)
        variant = ScpVariant(protocol, DEFAULT_OPTIONS[protocol] if i is None else int(i, 16))
        if not variant.is_supported:
            raise ValueError("a protocol that is not spoken here")
    version = int(document.get(VERSION_FIELD, "00"), 16)
    method = Diversification(document.get(DIVERSIFICATION_FIELD, Diversification.NONE.value))
    return CardKeys(enc, mac, dek, version, variant, method)
