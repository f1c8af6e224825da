# SPDX-License-Identifier: Apache-2.0
"""What processes of a node do the same way: a child's loop, channel and end; guarded memory."""

import asyncio
import ctypes
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from iose.runtime.channel import LINE_LIMIT, Handler, JsonChannel

DESCRIPTORS: Final = 65_536
PR_SET_DUMPABLE: Final = 4  # prctl(2)


def forbid_core_files() -> None:
    """Let this process and its children leave no core file: it would hold every secret."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hide_memory() -> None:
    """Let nobody but root look into this process, not even its own user (prctl(2)).

    For who holds the key of an encrypted folder: elsewhere, its user can read the files anyway.
    """
    forbid_core_files()
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def run_child(
    channel_number: int,
    handler: Handler,
    stop: Callable[[], Awaitable[None]],
    adopt: Callable[[JsonChannel], None],
) -> None:
    """Serve the supervisor's channel until it closes or SIGTERM comes, then stop.

    Runs on uvloop where there is one, else on asyncio's own loop.

    Args:
        channel_number: Inherited descriptor of the channel.
        handler: Answers the supervisor.
        stop: Awaited at the end.
        adopt: Given the channel before it is served, to tell events on it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    _raise_descriptor_limit()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415  # an optional speed-up

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(channel_number, handler, stop, adopt))


def _raise_descriptor_limit() -> None:
    """Take what the system allows: a session is a descriptor, an open store is two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(
    channel_number: int,
    handler: Handler,
    stop: Callable[[], Awaitable[None]],
    adopt: Callable[[JsonChannel], None],
) -> None:
    ours = socket.socket(fileno=channel_number)
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT)
    channel = JsonChannel(reader, writer, handler=handler)
    adopt(channel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, channel.close)
    await channel.serve()
    await stop()
