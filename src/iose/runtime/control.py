# SPDX-License-Identifier: Apache-2.0
"""The control socket of a running node: who may use it, how it is served, how it is reached.

Mode 0600 keeps other users out; the peer's credentials are checked as well, because a folder's
mode may be changed by accident. Root is let in: it could read the folder anyway.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from iose.runtime.channel import LINE_LIMIT, Handler, JsonChannel
from iose.runtime.errors import ControlError
from iose.runtime.folder import DataFolder, socket_address
from iose.servers.listening import stop_accepting
from iose.transport.host_channel import peer_uid

PRIVATE_UMASK: Final = 0o177
BACKLOG: Final = 16
ROOT: Final = 0
HANG_UP_S: Final = 1.0
FOREIGN_HINT: Final = "work as that user, or give --data DIR"


def is_allowed(uid: int) -> bool:
    """Return whether a user may command this process: its own user, and root."""
    return uid in (os.geteuid(), ROOT)


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket of mode 0600, in the place of one left by a dead process.

    Only the holder of the folder's lock may call it.

    Raises:
        OSError: The folder cannot be written.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(PRIVATE_UMASK)
    try:
        listener.bind(socket_address(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(previous)
    listener.listen(BACKLOG)
    return listener


class ControlServer:
    """Serves the control socket of one data folder."""

    def __init__(
        self, handler: Handler, *, uid_of: Callable[[socket.socket], int] = peer_uid
    ) -> None:
        self._handler = handler
        self._uid_of = uid_of
        self._server: asyncio.Server | None = None
        self._channels: set[JsonChannel] = set()

    async def start(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: The socket cannot be made.
        """
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listen_unix(path), limit=LINE_LIMIT
        )

    async def stop(self) -> None:
        """Stop listening and hang up on everyone."""
        if self._server is not None:
            await stop_accepting(self._server)
        channels = tuple(self._channels)
        for channel in channels:
            channel.close()
        with suppress(TimeoutError):  # who does not read is left
            async with asyncio.timeout(HANG_UP_S):
                for channel in channels:
                    await channel.closed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_allowed(self._uid_of(writer.get_extra_info("socket"))):
            writer.close()
            return
        channel = JsonChannel(reader, writer, handler=self._handler)
        self._channels.add(channel)
        try:
            await channel.serve()
        finally:
            self._channels.discard(channel)


@asynccontextmanager
async def open_channel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, handler: Handler | None = None
) -> AsyncIterator[JsonChannel]:
    """Give a channel that is served in the background while the block runs."""
    channel = (
        JsonChannel(reader, writer, handler=handler) if handler else JsonChannel(reader, writer)
    )
    task = asyncio.create_task(channel.serve())
    try:
        yield channel
    finally:
        channel.close()
        await task


@asynccontextmanager
async def connect_control(folder: DataFolder) -> AsyncIterator[JsonChannel]:
    """Give a channel to the node that runs on a data folder.

    Raises:
        ConfigurationError: The folder cannot be looked at.
        ControlError: No node of this user runs there, or not yet, or not any more.
    """
    foreign = f"the node on {folder.path} belongs to another user"
    try:
        reader, writer = await asyncio.open_unix_connection(
            socket_address(folder.control_socket), limit=LINE_LIMIT
        )
    except PermissionError:
        raise ControlError(foreign, hint=FOREIGN_HINT) from None
    except OSError:
        if command := folder.command():
            raise ControlError(
                f"no node runs on {folder.path}; another command, process {command}, holds it",
                hint="wait until that command ends, or end it",
            ) from None
        if folder.is_locked():
            raise ControlError(
                f"the node on {folder.path} is starting or stopping", hint="try again in a moment"
            ) from None
        raise ControlError(
            f"no node runs on {folder.path}", hint="start one with 'iose up', or give --data DIR"
        ) from None
    if os.geteuid() != ROOT and not is_allowed(peer_uid(writer.get_extra_info("socket"))):
        writer.close()  # what is asked of a node holds secrets
        raise ControlError(foreign, hint=FOREIGN_HINT)
    async with open_channel(reader, writer) as channel:
        yield channel
