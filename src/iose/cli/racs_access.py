# SPDX-License-Identifier: Apache-2.0
"""Which RACS server a command talks to, as whom, and which element is meant.

Either the options say it, or the node that runs on the local data folder and the operator's
certificate in its ``pki`` folder.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.common_options import DataOption, with_options
from iose.cli.output import warn
from iose.client.racs import BlockingRacsClient
from iose.protocols.racs.form import RacsUri, decode_racs_uri
from iose.runtime.channel import Result, read_list, read_object
from iose.runtime.config import NodeConfig, parse_address
from iose.runtime.control import connect_control
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import DataFolder
from iose.runtime.own_authority import authority_folder
from iose.transport.addresses import format_address
from iose.transport.racs_client import DEFAULT_PORT, RacsEndpoint, RacsReader
from iose.transport.racs_link import ANSWER_S, IDENTITY_FILES, identity_files
from iose.wire.errors import DecodeError

__all__ = [
    "DataOption",
    "LegacyOption",
    "PkiOption",
    "ServerNameOption",
    "ServerOption",
    "open_reader",
    "resolve_racs",
    "served_names",
    "with_server",
]

SCHEME: Final = "racs://"
REQUEST_TIMEOUT_S: Final = 15.0

ServerOption = Annotated[
    str | None, typer.Option("--server", help="RACS server, HOST:PORT; else the local node's.")
]
PkiOption = Annotated[
    Path | None, typer.Option("--pki", help="Folder with user.pem, user.key and ca.pem.")
]
ServerNameOption = Annotated[
    str | None, typer.Option("--server-name", help="Name the server's certificate must hold.")
]
LegacyOption = Annotated[
    bool,
    typer.Option("--legacy", help="For the author's own server: TLS 1.2, no forward secrecy."),
]

InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Take any server; for experiments only.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Longest wait for a response, in seconds.")
]
_SERVER_OPTIONS: Final = (
    ("data", DataOption, None),
    ("server", ServerOption, None),
    ("pki", PkiOption, None),
    ("server_name", ServerNameOption, None),
    ("is_legacy", LegacyOption, False),
    ("is_unverified", InsecureOption, False),
    ("answer_s", TimeoutOption, ANSWER_S),
)


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options that choose a server.

    Args:
        command: Its first parameter is the ``RacsEndpoint`` chosen; the command line does not
            see it.
    """
    return with_options(command, _SERVER_OPTIONS, resolve_racs)


def resolve_racs(  # noqa: PLR0913  # as many as the command line has options
    data: Path | None,
    server: str | None,
    pki: Path | None,
    *,
    server_name: str | None = None,
    is_legacy: bool = False,
    is_unverified: bool = False,
    answer_s: float = ANSWER_S,
) -> RacsEndpoint:
    """Return the server, and who we are to it.

    Args:
        data: Data folder of a local node; None for this user's.
        server: ``HOST`` or ``HOST:PORT``; None for the local node's.
        pki: Folder of our certificate; None for the data folder's own.
        server_name: Name the server's certificate must hold; None takes any node's of that CA.
        is_legacy: The server is the author's own.
        is_unverified: Take any server.
        answer_s: Longest wait for a response.

    Raises:
        ConfigurationError: The address is malformed, the node has no RACS port, or there is no
            certificate where one is looked for.
        ControlError: No node runs on the data folder.
    """
    folder = DataFolder(NodeConfig(data=str(data or "")).folder)
    host, port = _parse_server(server) if server is not None else _local_server(_status(folder))
    if is_unverified:
        warn("the server is not verified: who sits between reads and changes everything")
    own = pki if pki is not None else authority_folder(folder)
    for name in IDENTITY_FILES[:2] if is_unverified else IDENTITY_FILES:
        if not (own / name).is_file():
            raise ConfigurationError(
                f"{own} holds no {name}",
                hint="give --pki DIR, or have the node make one: iose pki --help",
            )
    return RacsEndpoint(
        host,
        port,
        *identity_files(own),
        server_name=server_name,
        is_legacy=is_legacy,
        is_unverified=is_unverified,
        answer_s=answer_s,
    )


def open_reader(
    target: str,
    data: Path | None = None,
    server: str | None = None,
    pki: Path | None = None,
    *,
    server_name: str | None = None,
    is_legacy: bool = False,
) -> RacsReader:
    """Return the reader of one element; it is not connected yet, and keeps no session afterwards.

    Not for use inside a running event loop: the server is asked for the element's name.

    Args:
        target: SEN or SEID of an element of that server, or ``racs://host:port/SEID``.
        data: As for ``resolve_racs``; so are the others.
        server: Not together with a target that names one.
        pki: Folder of our certificate.
        server_name: Name the server's certificate must hold.
        is_legacy: The server is the author's own.

    Raises:
        ConfigurationError: As for ``resolve_racs``, or the target is malformed.
        ControlError: No node runs on the data folder.
        TransportError: The server is not there, refuses us, or has no such element.
    """
    name = target
    if target.lower().startswith(SCHEME):
        if server is not None:
            raise ConfigurationError(f"{target} names a server, and so does --server")
        server, name = _parse_target(target)
    endpoint = resolve_racs(data, server, pki, server_name=server_name, is_legacy=is_legacy)
    with BlockingRacsClient(endpoint) as client:
        seid = client.seid_of(name)
        known = client.get_sen(seid)
    return RacsReader(endpoint, seid, sen="" if known is None else known.sen)


def served_names(reader: RacsReader, data: Path | None = None) -> list[str]:
    """Return the TLS server names of the elements of a reader's server that this user may see.

    RACS tells one name of each element; the node of the data folder, when it has that element,
    tells its owner those of instances and of elements no rule shows, too.

    Raises:
        TransportError: The server is not there, or refuses us.
    """
    with BlockingRacsClient(reader.endpoint) as client:
        names = [known.sen for _, known in client.names() if known is not None and known.sen]
    return names + _local_names(DataFolder(NodeConfig(data=str(data or "")).folder), reader.seid)


def _parse_server(text: str) -> tuple[str, int]:
    try:
        host, port = parse_address(text)
    except ConfigurationError:
        host, port = parse_address(f"{text}:{DEFAULT_PORT}")
    if port == 0:
        raise ConfigurationError(f"{text!r} is no server", hint="write HOST:PORT")
    return host, port


def _parse_target(target: str) -> tuple[str, str]:
    try:
        uri = decode_racs_uri(target)
    except DecodeError:
        uri = RacsUri("")
    if not uri.seid:
        raise ConfigurationError(
            f"{target!r} does not name an element", hint="write racs://HOST:PORT/SEID"
        )
    return format_address(uri.host, uri.port), uri.seid


def _local_names(folder: DataFolder, seid: str) -> list[str]:
    """Return every name on a folder's node; none where none runs, or it has no such SEID."""
    try:
        elements = list(map(read_object, read_list(_ask(folder, "element.list"), "elements")))
    except ControlError:
        return []
    if seid not in {element["seid"] for element in elements}:
        return []
    instances = (one for element in elements for one in read_list(element, "instances"))
    return [str(one["sen"]) for one in (*elements, *map(read_object, instances)) if one["sen"]]


def _status(folder: DataFolder) -> Result:
    return _ask(folder, "status")


def _ask(folder: DataFolder, op: str) -> Result:
    async def ask() -> Result:
        async with connect_control(folder) as channel:
            return await channel.request(op, timeout_s=REQUEST_TIMEOUT_S)

    return asyncio.run(ask())


def _local_server(status: Result) -> tuple[str, int]:
    addresses = [str(item) for item in read_list(status, "racs")] if "racs" in status else []
    if not addresses:
        raise ConfigurationError(
            "the node has no administration plane",
            hint="start it with 'iose up --racs HOST:PORT', or give --server HOST:PORT",
        )
    host, port = parse_address(addresses[0])
    return _LOOPBACK.get(host, host), port


_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared, not bound
