# SPDX-License-Identifier: Apache-2.0
"""What takes several commands: a load file in blocks, and data for an application in blocks.

Volatile: after a power cut in the middle, the card is as before the first block. After an error
the sequence is of no more use.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from iose.applet_api import CardManagement, Package
from iose.crypto.base import CryptoProvider, HashAlgorithm
from iose.globalplatform.commands import LoadBlock, StoreData
from iose.globalplatform.install import InstallForLoad
from iose.iso7816.status import StatusWord, StatusWordError
from iose.iso7816.tlv import Tlv

LOAD_FILE_DATA: Final = 0xC4  # tag of the load file data block (GPCS 2.3.1 §11.6.2.3)
_HASHES: Final = {algorithm.digest_size: algorithm for algorithm in HashAlgorithm}
_ENCRYPTED_OR_DGI: Final = 0x68  # of P1 of STORE DATA: data that would first have to be opened


class Loading:
    """One load file on its way in; only our own are let in, and only block by equal block.

    Args:
        crypto: Primitives.
        management: The card.
        request: INSTALL [for load].

    Raises:
        StatusWordError: 6985, that load file is there already; 6A80, a hash that cannot be that
            of our load file, or load parameters that are not heeded.
    """

    def __init__(
        self, crypto: CryptoProvider, management: CardManagement, request: InstallForLoad
    ) -> None:
        management.check_is_new(request.load_file)
        known = [one for one in management.packages() if one.aid == request.load_file]
        if known and request.data_hash and not _with_hash(crypto, known, request.data_hash):
            raise StatusWordError(StatusWord.WRONG_DATA, "the hash is not that of the load file")
        self._wire_forms = [(Tlv(LOAD_FILE_DATA, one.data).encode(), one) for one in known]
        self._received = 0
        self._next = 0

    def take(self, block: LoadBlock) -> Package | None:
        """Return the load file that a block completes, or None.

        Raises:
            StatusWordError: 6438, it is not one of ours; 6A86, a block out of order.
        """
        if block.number != self._next:
            raise StatusWordError(StatusWord.WRONG_P1P2, "a load block out of order")
        start, stop = self._received, self._received + len(block.data)
        self._wire_forms = [
            (form, package)
            for form, package in self._wire_forms
            if form[start:stop] == block.data and (stop == len(form)) == block.is_last
        ]
        if not self._wire_forms:
            raise StatusWordError(StatusWord.FOREIGN_PACKAGE)
        self._received, self._next = stop, self._next + 1
        return self._wire_forms[0][1] if block.is_last else None


class Receive(Protocol):
    """Takes one block."""

    def __call__(self, block: bytes, *, is_last: bool) -> None:
        """Take it.

        Raises:
            StatusWordError: It is refused.
        """


class Personalising:
    """Data on their way to an application, or to the domain itself."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._next = 0

    def take(self, block: StoreData) -> bool:
        """Hand a block on; return whether it was the last one.

        Raises:
            StatusWordError: 6A86, a block out of order, or of encrypted data; or it is refused.
        """
        if block.number != self._next or block.options & _ENCRYPTED_OR_DGI:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        self._next += 1
        self._receive(block.data, is_last=block.is_last)
        return block.is_last


def _with_hash(
    crypto: CryptoProvider, packages: Sequence[Package], data_hash: bytes
) -> list[Package]:
    algorithm = _HASHES.get(len(data_hash))
    if algorithm is None:
        return []
    return [one for one in packages if crypto.hash(algorithm, one.data) == data_hash]
