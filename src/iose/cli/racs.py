# SPDX-License-Identifier: Apache-2.0
"""``iose racs``: elements through the administration plane of a node, ours or the author's.

One command is one session: what it powered on loses its power when it ends.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from iose.cli.common_options import JsonOption
from iose.cli.output import error_document, print_json, print_table, warn
from iose.cli.racs_access import with_server
from iose.cli.racs_console import run, shell
from iose.client.racs import BlockingRacsClient, ElementName
from iose.client.racs_script import COMMENT
from iose.globalplatform.status import explain
from iose.iso7816.apdu import ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.protocols.racs.parameters import FETCH_DEFAULT
from iose.transport.racs_client import RacsEndpoint
from iose.transport.stack import EXCHANGE_LIMIT, SW1_MORE_APPLET, SW1_MORE_ISO
from iose.wire.errors import IoseError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, power, reset elements, send APDUs, by the administration plane of a node.",
)
app.command()(shell)
app.command()(run)

HEADER_SIZE: Final = 4
STDIN: Final = "-"
HEX_SEPARATORS: Final = str.maketrans("", "", ":-_ \t")
FETCH_SIZE: Final = range(4, 5)
STATUS_SIZE: Final = range(2, 3)
APDU_SIZE: Final = range(4, 65_545)  # extended, with both lengths
SW1_MORE: Final = (SW1_MORE_ISO, SW1_MORE_APPLET)
PIN_COMMANDS: Final = (0x20, 0x24)  # VERIFY, CHANGE PIN
SW1_TRIES: Final = 0x63
TRIES_LIMIT: Final = 0x0F

ElementArgument = Annotated[str, typer.Argument(help="SEID or SEN of the element.")]


@app.command("list")
@with_server
def list_elements(
    endpoint: RacsEndpoint,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the elements you may see, and their names.

    Each SEID has its line, aliases included.
    """
    with BlockingRacsClient(endpoint) as client:
        rows = [(seid, name or ElementName("")) for seid, name in client.names()]
    if as_json:
        elements = [{"seid": seid, "sen": name.sen, "aid": name.aid} for seid, name in rows]
        print_json({"server": endpoint.address, "elements": elements})
    else:
        print_table(("SEID", "SEN", "AID"), ([seid, name.sen, name.aid] for seid, name in rows))
        if not rows:
            warn(f"{endpoint.address} shows you no element", "ask the operator for a rule")


@app.command()
@with_server
def power(
    endpoint: RacsEndpoint,
    element: ElementArgument,
    state: Annotated[
        Literal["on", "off"],
        typer.Argument(help="on: see whether it starts; off: cut it off, and who holds it."),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """See that an element starts, or switch it off.

    On powers it on and off again: what a session powers on goes off when it ends. Off lets a
    free element be; another session's needs the right preempt.
    """
    with BlockingRacsClient(endpoint) as client:
        seid = client.seid_of(element)
        if state == "on":
            client.power_on(seid)
        client.shutdown(seid)
    if as_json:
        print_json({"server": endpoint.address, "seid": seid, "power": state, "done": True})
    else:
        print(f"{seid} starts" if state == "on" else f"{seid} is off")


@app.command()
@with_server
def reset(
    endpoint: RacsEndpoint,
    element: ElementArgument,
    *,
    warm: Annotated[bool, typer.Option("--warm", help="Keep the power.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Power an element on, reset it, power it off."""
    with BlockingRacsClient(endpoint) as client, _powered(client, element) as seid:
        client.reset(seid, is_warm=warm)
    if as_json:
        print_json({"server": endpoint.address, "seid": seid, "warm": warm, "done": True})
    else:
        print(f"{seid} was reset")


@app.command()
@with_server
def sen(
    endpoint: RacsEndpoint,
    element: ElementArgument,
    name: Annotated[
        str | None, typer.Argument(help="The name to give it; null takes it off the service plane.")
    ] = None,
    *,
    aid: Annotated[str, typer.Option("--aid", help="Applet that TLS clients get, in hex.")] = "",
    clear: Annotated[
        bool, typer.Option("--clear", help="Forget the name that was given; the ATR's holds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show or change an element's name for TLS clients.

    Raises:
        BadParameter: The options do not go together.
    """
    if (aid and name is None) or (clear and name is not None):
        raise typer.BadParameter("--aid goes with a name, --clear with none")
    with BlockingRacsClient(endpoint) as client:
        seid = client.seid_of(element)
        is_change = name is not None or clear
        found = client.sen(seid, name, aid) if is_change else client.get_sen(seid)
    shown = found or ElementName("")
    if as_json:
        document = {"server": endpoint.address, "seid": seid, "sen": shown.sen, "aid": shown.aid}
        print_json(document)
    else:
        print_table(("SEID", "SEN", "AID"), ([seid, shown.sen, shown.aid],))


@app.command()
@with_server
def apdu(  # noqa: PLR0913  # every option of the command line
    endpoint: RacsEndpoint,
    element: ElementArgument,
    commands: Annotated[
        list[str], typer.Argument(help="Commands in hex, sent in order; - reads them from stdin.")
    ],
    *,
    more: Annotated[
        bool, typer.Option("--more", help="Fetch the rest of answers that end with 61xx or 9Fxx.")
    ] = False,
    fetch: Annotated[
        str, typer.Option("--fetch", help="Header of that fetching, 8 hex digits.")
    ] = "",
    expected: Annotated[
        str, typer.Option("--continue", help="Stop, and fail, at any other status word.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Power an element on, send commands, power it off.

    Prints each answer: its data, its status word, and what that means. A status word is no
    failure unless --continue says so.

    Raises:
        BadParameter: Something is not in hex, or too short.
        StatusWordError: A status word is not the one asked for.
        IoseError: The server refused, or could not be reached; the answers so far are printed.
    """
    plan = list(_apdus(commands))
    header = _hex(fetch, "--fetch", FETCH_SIZE) if fetch else None
    wanted = None
    if expected:
        wanted = StatusWord(int.from_bytes(_hex(expected, "--continue", STATUS_SIZE), "big"))
    exchanges: list[dict[str, str]] = []
    failure: IoseError | None = None
    try:
        with BlockingRacsClient(endpoint) as client, _powered(client, element) as seid:
            for command in plan:
                answer = _exchange(client, seid, command, header, is_whole=more or bool(fetch))
                exchanges.append(_shown(command, answer))
                if not as_json:
                    _print_exchange(exchanges[-1])
                if wanted is not None and answer.status != wanted:
                    message = f"expected status word {wanted}, found {answer.status}"
                    raise StatusWordError(answer.status, message)
    except IoseError as fault:
        failure = fault
    if as_json:
        error = None if failure is None else error_document(failure)
        print_json({"server": endpoint.address, "exchanges": exchanges, "error": error})
    if failure is not None:
        raise failure


@app.command("import")
def import_config(
    folder: Annotated[Path, typer.Argument(help="The published server's directory.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; it must not be there yet.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node's configuration of the author's.

    Reads config.txt, users.txt, policies, filters and names, and prints a TOML file for iose node
    run. Nobody gets more than those files give; what is not carried over is told.
    """
    from iose.runtime.author_config import read_author_config  # noqa: PLC0415  # only here

    imported = read_author_config(folder)
    if out is not None:
        with out.open("x", encoding="utf-8") as file:
            file.write(imported.toml)
    if as_json:
        print_json({"toml": imported.toml, "notes": list(imported.notes)})
        return
    if out is None:
        print(imported.toml, end="")
        return
    for note in imported.notes:
        warn(note)


@contextmanager
def _powered(client: BlockingRacsClient, element: str) -> Iterator[str]:
    """Give the SEID of an element that is powered on while the block runs."""
    seid = client.seid_of(element)
    client.power_on(seid)
    try:
        yield seid
    finally:
        if client.is_open:  # by another session, it would be taken from who holds it by now
            with suppress(IoseError):  # the end of the session does the same
                client.shutdown(seid)


def _exchange(
    client: BlockingRacsClient, seid: str, command: bytes, header: bytes | None, *, is_whole: bool
) -> ResponseApdu:
    if not is_whole:
        return ResponseApdu.decode(client.apdu(seid, command))
    more = SW1_MORE[0]
    data = b""
    for _ in range(EXCHANGE_LIMIT):
        answer = ResponseApdu.decode(client.apdu(seid, command, more=more, fetch=header))
        data += answer.data
        if answer.status.sw1 not in SW1_MORE:
            return ResponseApdu(data, answer.status)
        more = answer.status.sw1  # 9F: the server was told of 61 only
        command = (header or FETCH_DEFAULT) + bytes((answer.status.sw2,))
    raise StatusWordError(StatusWord(more << 8), "the answer does not end")


def _apdus(texts: list[str]) -> Iterator[bytes]:
    for number, text in enumerate(texts, 1):
        if text != STDIN:
            yield _hex(text, f"command {number}", APDU_SIZE)
            continue
        for place, line in enumerate(sys.stdin, 1):
            if (stripped := line.strip()) and not stripped.startswith(COMMENT):
                yield _hex(stripped, f"line {place} of stdin", APDU_SIZE)


def _hex(text: str, what: str, sizes: range) -> bytes:
    """Return the bytes of hex digits; what they are is never repeated: it may be a PIN.

    Raises:
        BadParameter: They are no hex, or too few or too many.
    """
    try:
        data = bytes.fromhex(text.translate(HEX_SEPARATORS))
    except ValueError:
        raise typer.BadParameter(f"{what} is not in hex, two digits a byte") from None
    if len(data) not in sizes:
        wanted = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        raise typer.BadParameter(f"{what} has {len(data)} bytes, expected {wanted}")
    return data


def _shown(command: bytes, answer: ResponseApdu) -> dict[str, str]:
    return {
        "header": command[:HEADER_SIZE].hex().upper(),  # the rest may hold a PIN
        "data": answer.data.hex().upper(),
        "status": str(answer.status),
        "meaning": _meaning(answer.status, command[1]),
    }


def _meaning(status: StatusWord, ins: int) -> str:
    if ins in PIN_COMMANDS and status.sw1 == SW1_TRIES and status.sw2 <= TRIES_LIMIT:
        tries = "try" if status.sw2 == 1 else "tries"
        return f"wrong PIN, {status.sw2} {tries} left"  # tls-se.md §2: not coded as Cx
    text = explain(status, ins)
    if str(status) in text and not status.name.startswith("SW_"):  # only TLS-SE has a name for it
        return status.name.lower().replace("_", " ")
    return text


def _print_exchange(exchange: dict[str, str]) -> None:
    data = f"{exchange['data']} " if exchange["data"] else ""
    print(f"{data}{exchange['status']}  {exchange['meaning']}".rstrip(), flush=True)
