# SPDX-License-Identifier: Apache-2.0
"""Bridge ⇄ connection: the only place where the network and the elements meet."""

from typing import Protocol

from iose.bridge.stream import StreamBridge
from iose.transport.base import Connection


class ClientStream(Protocol):
    """The network's side of a session."""

    async def wait_for_client(self) -> None:
        """Return when the client has spoken, or the bridge has ended."""

    async def send(self, data: bytes) -> None:
        """Write to the client; wait while it does not read."""


async def shuttle(bridge: StreamBridge, connection: Connection, client: ClientStream) -> None:
    """Carry batches to the element and answers to the client until the bridge ends.

    What the bridge still has to send at its end is left for the caller.

    Raises:
        TransportError: The element gave no answer.
        LocalProtocolError: The connection broke the contract of batches.
    """
    while bridge.end is None:
        batch = bridge.next_batch()
        if not batch:
            await client.wait_for_client()
            continue
        bridge.receive_responses(await connection.transmit_batch(batch))
        if bridge.end is None:
            await client.send(bridge.data_to_send())
