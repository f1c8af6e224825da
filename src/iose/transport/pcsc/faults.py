# SPDX-License-Identifier: Apache-2.0
"""What a code of PC/SC means for who uses a card, before a session and in one."""

from typing import Final

from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from iose.transport.pcsc.codes import ScardCode
from iose.transport.pcsc.scard import ScardError

START_SERVICE: Final = (
    "install pcscd, start it (systemctl start pcscd.socket), "
    "and see that this user may use it (polkit)"
)
LET_IN: Final = "let this user in, by a polkit rule for org.debian.pcsc-lite.access_card"
CLEAN_CARD: Final = "is it the right way round? Clean its contacts, or try it in another reader"
CLOSE_OTHERS: Final = "end the program that uses it (gpg's scdaemon, a browser, another node)"
_Meaning = tuple[type[TransportError], str, str | None]

_SERVICE: Final[tuple[int, ...]] = (
    ScardCode.INVALID_HANDLE,  # of a service that has been started again since
    ScardCode.SYSTEM_CANCELLED,
    ScardCode.COMM_ERROR,
    ScardCode.NO_SERVICE,
    ScardCode.SERVICE_STOPPED,
)
_REFUSED: Final = (NoReaderError, "the PC/SC service does not let this user in", LET_IN)
_MUTE: Final = (TransportError, "the card does not answer its reset", CLEAN_CARD)
_NO_CARD: Final = (NoCardError, "there is no card in the reader", None)
_NO_READER: Final = (NoReaderError, "the reader is not there", "plug it in")
_TAKEN_OUT: Final = (CardRemovedError, "the card was taken out", None)
_UNPLUGGED: Final = (CardRemovedError, "the reader was unplugged", None)
_OTHER_PROTOCOL: Final = "the card speaks neither T=0 nor T=1 with this reader"

CONNECTING: Final[dict[int, _Meaning]] = {
    ScardCode.SHARING_VIOLATION: (CardBusyError, "another program holds the card", CLOSE_OTHERS),
    ScardCode.NO_SMARTCARD: _NO_CARD,
    ScardCode.REMOVED_CARD: _NO_CARD,
    ScardCode.UNKNOWN_READER: _NO_READER,
    ScardCode.READER_UNAVAILABLE: _NO_READER,
    ScardCode.UNRESPONSIVE_CARD: _MUTE,
    ScardCode.UNPOWERED_CARD: _MUTE,
    ScardCode.PROTO_MISMATCH: (TransportError, _OTHER_PROTOCOL, None),
    ScardCode.NO_ACCESS: _REFUSED,
    ScardCode.SECURITY_VIOLATION: _REFUSED,
    **dict.fromkeys(_SERVICE, (NoReaderError, "the PC/SC service does not answer", START_SERVICE)),
}

IN_SESSION: Final[dict[int, _Meaning]] = {
    ScardCode.NO_SMARTCARD: _TAKEN_OUT,
    ScardCode.REMOVED_CARD: _TAKEN_OUT,
    ScardCode.UNKNOWN_READER: _UNPLUGGED,
    ScardCode.READER_UNAVAILABLE: _UNPLUGGED,
    ScardCode.RESET_CARD: (CardRemovedError, "another program has reset the card", CLOSE_OTHERS),
    ScardCode.UNPOWERED_CARD: (CardRemovedError, "the card has lost its power", None),
    ScardCode.UNRESPONSIVE_CARD: _MUTE,
    ScardCode.PROTO_MISMATCH: (TransportError, _OTHER_PROTOCOL, None),
    **dict.fromkeys(_SERVICE, (CardRemovedError, "the PC/SC service has gone away", START_SERVICE)),
}


def fault_of(reader: str, error: ScardError, meanings: dict[int, _Meaning]) -> TransportError:
    """Return what a failed call means for who uses the card, by one of the tables above."""
    kind, message, hint = meanings.get(
        error.code, (TransportError, f"no answer from the card: {error}", CLEAN_CARD)
    )
    return kind(reader, message, hint=hint)
