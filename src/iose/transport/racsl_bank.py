# SPDX-License-Identifier: Apache-2.0
"""The element of a RACS Lite board, as a bank of one slot (racs.md §12.1)."""

from typing import Final

from iose.tls.constants import CipherSuite
from iose.transport.bank import Slot, SlotState
from iose.transport.racsl_client import RacslEndpoint, RacslLine, connect
from iose.transport.slot_keeper import OneSlotBank, SlotKeeper
from iose.transport.text_link import TextLink

SUITES: Final = {
    "gcm": (CipherSuite.TLS_AES_128_GCM_SHA256,),
    "ccm": (CipherSuite.TLS_AES_128_CCM_SHA256,),
}


class RacslBank(OneSlotBank):
    """One element behind RACS Lite; between sessions, no more than a TCP connection asks for it.

    Args:
        name: What the operator calls it.
        host: The board.
        port: Its port.
        sen: TLS server name of the board, which is the element's name.
        identity: PSK identity.
        psk: The key.
        suite: ``gcm`` or ``ccm``.
        apdu_s: Longest wait for an answer, in seconds.
    """

    def __init__(  # noqa: PLR0913  # what the wire needs
        self,
        name: str,
        *,
        host: str,
        port: int,
        sen: str,
        identity: str,
        psk: bytes,
        suite: str,
        apdu_s: float,
    ) -> None:
        self._endpoint = RacslEndpoint(
            host, port, psk, sen, identity=identity, suites=SUITES[suite]
        )
        slot = Slot(
            name,
            f"racsl-{sen}",
            SlotState.ABSENT,
            keys=(sen, self._endpoint.address),
            sen=sen,
            has_warm_reset=False,
            fault="not looked at yet",
        )
        super().__init__(
            SlotKeeper(
                slot,
                lambda: TextLink(RacslLine(self._endpoint), sen),
                apdu_s=apdu_s,
                check=self._check,
            )
        )

    async def _check(self) -> None:
        _, writer = await connect(self._endpoint)
        writer.transport.abort()
