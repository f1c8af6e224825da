# SPDX-License-Identifier: Apache-2.0
"""What an element's owner may read where its store lies: the keys of the security domain.

For the owner's channel of an element host; no APDU leads here.
"""

from collections.abc import Mapping
from typing import Final

from iose.applets.security_domain.state import DomainKeys, Name
from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.keys import KeySet
from iose.iso7816.aid import Aid

ISD_AID: Final = Aid(b"\xa0\x00\x00\x01\x51\x00\x00\x00")


def read_domain(objects: Mapping[str, bytes]) -> tuple[ScpVariant, KeySet] | None:
    """Return protocol and default keys in the stored objects of a card, or None without a domain.

    Raises:
        DecodeError: They are damaged.
    """
    variant = objects.get(f"{ISD_AID}/object/{Name.VARIANT}", b"")
    keys = DomainKeys.decode(objects.get(f"{ISD_AID}/object/{Name.KEYS}", b"")).find(0)
    if keys is None or len(variant) != _VARIANT_SIZE:
        return None
    return ScpVariant(*variant), keys


_VARIANT_SIZE: Final = 2
