# SPDX-License-Identifier: Apache-2.0
"""The operator's side of exposing an element: by the node of a data folder, or without one.

Both give a function that tells how the exposure does; what it says means the same.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Final

from iose.runtime.channel import Result, read_list, read_object, read_text
from iose.runtime.control import connect_control
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.exposures import EXPOSE, EXPOSED, WITHDRAW, ExposeRequest
from iose.runtime.folder import DataFolder
from iose.runtime.local_reader import LocalReader
from iose.servers.virtual_reader import Exposure

REQUEST_TIMEOUT_S: Final = 20.0
ENDED_HINT: Final = "it was withdrawn or taken away, or the node process was started again"
Tell = Callable[[], Awaitable[Result]]


async def ask_to_expose(folder: DataFolder, request: ExposeRequest) -> Result:
    """Have the node of a folder expose an element, and return how that does.

    Raises:
        ConfigurationError: It is refused.
        ControlError: No node runs there, or the element or the driver is not there.
    """
    async with connect_control(folder) as channel:
        answer = await channel.request(EXPOSE, request.to_arguments(), timeout_s=REQUEST_TIMEOUT_S)
    return read_object(answer.get("exposed"))


async def ask_to_withdraw(folder: DataFolder, element: str) -> Result:
    """Have the node of a folder withdraw an element, and return how its exposure did.

    Raises:
        ConfigurationError: It is not exposed.
        ControlError: No node runs there.
    """
    async with connect_control(folder) as channel:
        answer = await channel.request(WITHDRAW, {"element": element}, timeout_s=REQUEST_TIMEOUT_S)
    return read_object(answer.get("withdrawn"))


@asynccontextmanager
async def exposed_by_node(folder: DataFolder, request: ExposeRequest) -> AsyncIterator[Tell]:
    """Expose an element of a running node while the block runs.

    Raises:
        ConfigurationError: It is refused.
        ControlError: No node runs there, or the element or the driver is not there.
    """
    async with connect_control(folder) as channel:
        answer = await channel.request(EXPOSE, request.to_arguments(), timeout_s=REQUEST_TIMEOUT_S)
        seid = read_text(read_object(answer.get("exposed")), "element")

        async def tell() -> Result:
            try:
                exposed = await channel.request(EXPOSED, timeout_s=REQUEST_TIMEOUT_S)
            except ControlError as error:
                if not channel.closed.is_set():
                    raise
                raise ControlError(
                    f"the node has stopped, and {request.element} is not exposed any more",
                    hint="start the node, or expose the element without one: the same command",
                ) from error
            for one in map(read_object, read_list(exposed, "exposed")):
                if one["element"] == seid:
                    return one
            raise ControlError(f"{request.element} is not exposed any more", hint=ENDED_HINT)

        try:
            yield tell
        finally:
            with suppress(ConfigurationError, ControlError):  # it has ended already
                await channel.request(WITHDRAW, {"element": seid}, timeout_s=REQUEST_TIMEOUT_S)


@asynccontextmanager
async def exposed_alone(local: LocalReader, request: ExposeRequest) -> AsyncIterator[Tell]:
    """Expose an element of a folder that no node runs on, while the block runs.

    Raises:
        ConfigurationError: The folder is held by somebody else, or does not open.
        IoseError: The host did not start, or the driver is not there.
    """
    sen = request.element if request.element in local.sens else ""
    async with local.opened() as link:
        reader = link.reader(local.seid)
        exposure = Exposure(local.seid, sen, reader.connect, request.address, request.protocol)

        async def tell() -> Result:
            return asdict(exposure.status())

        try:
            await exposure.start()
            yield tell
        finally:
            await exposure.stop()
