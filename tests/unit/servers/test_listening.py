# SPDX-License-Identifier: Apache-2.0
"""What every server has of its listening sockets, whichever plane it serves."""

import asyncio
import socket

import pytest

from iose.servers.listening import KEEPALIVE_PROBES, KEEPALIVE_S, Listeners

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_bound", [False, True])
async def test_the_system_looks_for_clients_that_vanished(is_bound):
    accepted = asyncio.get_running_loop().create_future()

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport)

    bound = [socket.create_server(("127.0.0.1", 0))] if is_bound else []
    listeners = Listeners()
    await listeners.open(Client, [("127.0.0.1", 0)], bound)
    _, writer = await asyncio.open_connection(*listeners.addresses[0])
    transport = await accepted
    connection = transport.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    for option, value in (
        (socket.TCP_KEEPIDLE, KEEPALIVE_S),
        (socket.TCP_KEEPINTVL, KEEPALIVE_S),
        (socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, option) == value
    transport.abort()
    writer.close()
    await listeners.close()
