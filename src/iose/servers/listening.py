# SPDX-License-Identifier: Apache-2.0
"""Where a server listens: addresses of its own, or bound sockets that somebody hands in.

Every front and every face of the administration plane has one of these.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

BACKLOG: Final = 1024  # clients that wait to be accepted
KEEPALIVE_S: Final = 15  # a vanished client is found before it has kept an element for long
KEEPALIVE_PROBES: Final = 3
KEEPALIVE: Final = (  # the system asks silent clients whether they are there
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
)
TURNS_TO_CONNECT: Final = 2  # of the loop: the transport is made, then its protocol is told


class Listeners:
    """The listening sockets of one server."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the server listens, real ports included."""
        names = (sock.getsockname() for server in self._servers for sock in server.sockets)
        return tuple((name[0], name[1]) for name in names)

    async def open(
        self,
        factory: Callable[[], asyncio.Protocol],
        addresses: Iterable[tuple[str, int]],
        bound: Sequence[socket.socket],
    ) -> None:
        """Listen on the bound sockets, on all addresses when there are none.

        Clients that vanish are found out.

        Raises:
            OSError: One cannot be had; none is listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            for sock in bound:
                server = await loop.create_server(factory, sock=sock, backlog=BACKLOG)
                self._servers.append(server)
            for host, port in () if bound else addresses:
                server = await loop.create_server(factory, host, port, backlog=BACKLOG)
                self._servers.append(server)
            for sock in (sock for server in self._servers for sock in server.sockets):
                for level, option, value in KEEPALIVE:
                    sock.setsockopt(level, option, value)  # connections inherit it
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        """Listen no more."""
        servers, self._servers = self._servers, []
        for server in servers:
            await stop_accepting(server)


async def stop_accepting(server: asyncio.Server) -> None:
    """Close a server once everyone it has accepted has a protocol to tell that it ends.

    A server of asyncio closed between the two (Python 3.11) leaves the connection to nobody.
    """
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        loop.remove_reader(sock.fileno())
    for _ in range(TURNS_TO_CONNECT):
        await asyncio.sleep(0)
    server.close()
