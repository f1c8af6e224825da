# SPDX-License-Identifier: Apache-2.0
"""A TLS session with an element over any connection: what a front and its client do together."""

from collections.abc import Sequence

from iose.bridge.stream import record_steps
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.tls import ClientEngine, PreSharedKey
from iose.tls.events import ApplicationData
from iose.transport.base import Connection
from tests.support.element import REFERENCE_CLIENT
from tests.support.engine_pair import PSK, client_config, events_of

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
RESET_TLS = CommandApdu(0, 0xD8, 0, 0, le=256)
GOES_ON = (StatusWord.OK, 0x9001)


class TlsSession:
    """TLS with the applet behind a connection.

    Attributes:
        statuses: Status word of each record sent.
    """

    def __init__(
        self, connection: Connection, psk: PreSharedKey = PSK, limits: ApduLimits | None = None
    ) -> None:
        self.statuses: list[int] = []
        self._connection = connection
        self._chunk = (limits or ApduLimits()).chunk_size
        self._engine = ClientEngine(client_config(psk, **REFERENCE_CLIENT))

    async def open(self) -> "TlsSession":
        """Select the applet and run the handshake."""
        start = [BatchStep(SELECT), BatchStep(RESET_TLS)]
        responses = await self._connection.transmit_batch(start)
        assert [one.status for one in responses] == [StatusWord.OK, StatusWord.OK]
        self._engine.start()
        await self._flush()
        assert self._engine.is_open
        return self

    async def command(self, text: str) -> str:
        """Return the keystore's answer to one command, both without line ends."""
        self._engine.send_data(text.encode() + b"\r\n")
        data = await self._flush()
        return data.decode().removesuffix("\r\n")

    async def _flush(self) -> bytes:
        data = b""
        while records := self._engine.records_to_send():
            for record in records:
                self._engine.receive_data(await self._send(record_steps(record, self._chunk)))
                events = events_of(self._engine)
                data += b"".join(one.data for one in events if isinstance(one, ApplicationData))
        return data

    async def _send(self, steps: Sequence[BatchStep]) -> bytes:
        responses = await self._connection.transmit_batch(steps)
        self.statuses.append(responses[-1].status)
        assert responses[-1].status in (*GOES_ON, 0x9002), f"{responses[-1].status:04X}"
        return b"".join(one.data for one in responses)


async def check_session(connection: Connection, psk: PreSharedKey = PSK) -> str:
    """Run a whole session and return the element's version."""
    session = await TlsSession(connection, psk).open()
    return await session.command("?00")
