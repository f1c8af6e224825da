# SPDX-License-Identifier: Apache-2.0
"""The life of a running node in its supervisor's process: signals, readiness, end.

``iose up`` and ``iose node run`` differ in what they announce and where their settings come from.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from iose.runtime.children import Report
from iose.runtime.config import NodeConfig
from iose.runtime.crew import AskPassphrase, hold_folder
from iose.runtime.process import forbid_core_files
from iose.runtime.supervisor import Supervisor
from iose.wire.errors import IoseError

LOCK_WAIT_S = 3.0  # a node that is just stopping
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
Announce = Callable[[Supervisor], Awaitable[None]]


def serve_node(
    config: NodeConfig,
    passphrase: AskPassphrase,
    announce: Announce,
    *,
    reload_config: Callable[[], NodeConfig] | None,
    report: Report,
) -> None:
    """Run a node until SIGTERM, SIGINT or a command stops it; a second signal cuts the wait short.

    Args:
        config: Its configuration.
        passphrase: Asked once for the passphrase of the data folder.
        announce: Awaited when everything listens.
        reload_config: What SIGHUP and ``iose node reload`` read; None: SIGHUP stops the node,
            as the end of a terminal should.
        report: Told of ends and starts of processes, and of failed reloads.

    Raises:
        IoseError: It could not start; nothing is left running.
    """
    forbid_core_files()
    with hold_folder(config.folder, passphrase, wait_s=LOCK_WAIT_S, is_node=True) as held:

        async def serve() -> None:
            supervisor = Supervisor(held, config, reload_config=reload_config, report=report)
            await _serve(supervisor, announce, report, is_reloading=reload_config is not None)

        asyncio.run(serve())


async def _serve(
    supervisor: Supervisor, announce: Announce, report: Report, *, is_reloading: bool
) -> None:
    hurry = asyncio.Event()

    def stop() -> None:
        if supervisor.stop_asked.is_set():
            hurry.set()
        supervisor.stop_asked.set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    reloads: set[asyncio.Task[None]] = set()

    def hang_up() -> None:
        task = asyncio.create_task(_reload(supervisor, report))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, hang_up if is_reloading else stop)
    try:
        if await _start(supervisor):
            await announce(supervisor)
            notify_service_manager("READY=1")
            await supervisor.stop_asked.wait()
        notify_service_manager("STOPPING=1")
    finally:
        await supervisor.stop(hurry)


async def _start(supervisor: Supervisor) -> bool:
    """Start, unless a signal stops it on the way; return whether it started."""
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(supervisor.stop_asked.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    return False


async def _reload(supervisor: Supervisor, report: Report) -> None:
    try:
        await supervisor.reload()
        report("configuration", "reloaded", 0)
    except IoseError as error:
        report("configuration", f"not reloaded: {error}", 0)


def notify_service_manager(state: str) -> None:
    """Tell systemd, where it asks to be told (sd_notify(3)); elsewhere do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.send(state.encode())
