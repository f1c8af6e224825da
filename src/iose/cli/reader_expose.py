# SPDX-License-Identifier: Apache-2.0
"""``iose reader expose`` and ``withdraw``: an element as a card that any PC/SC program can use."""

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager, suppress
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any, Final

import typer

from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import print_json, warn
from iose.cli.passphrase import folder_passphrase
from iose.protocols.vpcd import DEFAULT_PORT
from iose.runtime.channel import Result
from iose.runtime.config import NodeConfig
from iose.runtime.errors import ConfigurationError
from iose.runtime.exposing import (
    Tell,
    ask_to_expose,
    ask_to_withdraw,
    exposed_alone,
    exposed_by_node,
)
from iose.runtime.exposures import DEFAULT_HOST, ExposeRequest
from iose.runtime.folder import DataFolder
from iose.runtime.local_reader import find_local

LOOK_S: Final = 1.0
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# as Debian configures the driver: the names that pcscd makes of its two readers
READERS: Final = {DEFAULT_PORT: "Virtual PCD 00 00", DEFAULT_PORT + 1: "Virtual PCD 00 01"}

IN_CLEAR: Final = "commands, PINs included, go over the network in clear, and to whoever answers"
IN_CLEAR_HINT: Final = (
    "end this, and go through a tunnel, without --host: ssh -L {port}:127.0.0.1:{port} {host}"
)


class CardProtocol(StrEnum):
    """What a card may speak with its reader."""

    T0 = "T=0"
    T1 = "T=1"


TargetArgument = Annotated[str, typer.Argument(help="SEN or SEID of an element.")]
HostOption = Annotated[str, typer.Option("--host", help="Where the reader's driver runs.")]
PortOption = Annotated[
    int, typer.Option("--port", min=1, max=65_535, help="Port of the reader in the driver.")
]
ProtocolOption = Annotated[CardProtocol, typer.Option("--protocol", help="What the card speaks.")]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Leave it to the node; end it with 'reader withdraw'.")
]


def expose(  # noqa: PLR0913  # options of a command
    target: TargetArgument,
    *,
    port: PortOption = DEFAULT_PORT,
    host: HostOption = DEFAULT_HOST,
    protocol: ProtocolOption = CardProtocol.T0,
    data: DataOption = None,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put an element into a virtual PC/SC reader; Ctrl-C takes it out.

    The driver of Debian's vsmartcard-vpcd gives PC/SC programs the reader. Meanwhile the element
    is held as by any session.

    Raises:
        ConfigurationError: No node runs to leave it to, or the request is refused.
        IoseError: The element or the driver is not there.
    """
    given: dict[str, object] = {"element": target, "host": host, "port": port}
    owner = 0 if detach else os.getpid()
    request = ExposeRequest.from_arguments({**given, "protocol": protocol.value, "owner": owner})
    if not _is_this_machine(host):
        warn(IN_CLEAR, IN_CLEAR_HINT.format(host=host, port=port))
    path = NodeConfig(data=str(data or "")).folder
    local = find_local(path, target, folder_passphrase(path).read)
    if detach:
        if local is not None:
            raise ConfigurationError(
                f"no node runs on {path} that could keep it exposed",
                hint="start one with 'iose up', or leave --detach out",
            )
        _show(asyncio.run(ask_to_expose(DataFolder(path), request)), request, as_json=as_json)
        return
    opened = (
        exposed_by_node(DataFolder(path), request)
        if local is None
        else exposed_alone(local, request)
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(_keep(opened, request, as_json=as_json))


def withdraw(
    target: TargetArgument, *, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Take an element that a node exposes out of its virtual reader."""
    folder = DataFolder(NodeConfig(data=str(data or "")).folder)
    document = asyncio.run(ask_to_withdraw(folder, target))
    if as_json:
        print_json({"withdrawn": document})
    else:
        print(f"{target} is withdrawn from {document['address']}, {document['apdus']} APDUs later")


async def _keep(
    opened: AbstractAsyncContextManager[Tell], request: ExposeRequest, *, as_json: bool
) -> None:
    """Expose until a signal comes, and tell what changes."""
    stopping = asyncio.Event()
    async with opened as tell:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stopping.set)
        status = await tell()
        _show(status, request, as_json=as_json)
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await stopping.wait()
            status, previous = await tell(), status
            _show_change(previous, status)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _show(status: Result, request: ExposeRequest, *, as_json: bool) -> None:
    reader = READERS.get(request.address.port)
    if as_json:
        print_json({"exposed": status, "reader": reader})
        return
    address, speaks = status["address"], status["protocol"]
    print(f"{request.element} is in the virtual reader at {address}, as a card of {speaks}.")
    if reader is None:
        print("'opensc-tool --list-readers' shows the reader's number N, for the lines below.")
    else:
        print(f'PC/SC programs call the reader "{reader}".')
    number = str(request.address.port - DEFAULT_PORT) if reader else "N"
    print(f"""
Try it, from another terminal:

  pcsc_scan -r
  opensc-tool --reader {number} --atr
  opensc-tool --reader {number} --card-driver default --send-apdu 00A404000601020304050000
""")
    end = f"End it with: iose reader withdraw {request.element}"
    print("Stop with Ctrl-C." if request.owner else end, flush=True)


def _show_change(previous: Result, status: Result) -> None:
    """Tell who sits there that the card left the reader, or is in it again."""
    fault: Any = status["fault"]
    if not status["connected"] and fault and fault != previous["fault"]:
        hint = status["hint"]
        warn(f"not in the reader: {fault}; trying again", str(hint) if hint else None)
    if status["connected"] and not previous["connected"]:
        warn("in the reader again")
