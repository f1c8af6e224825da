# SPDX-License-Identifier: Apache-2.0
"""``iose racs shell`` and ``iose racs run``: whole requests, typed or from a file.

They do as the console of the published server does. History stays in memory, since lines may
hold PINs.
"""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from iose.cli.common_options import JsonOption
from iose.cli.output import ExitStatus, error_document, print_error, print_json, warn
from iose.cli.racs_access import with_server
from iose.client.racs import BlockingRacsClient
from iose.client.racs_script import COMMENT, read_script
from iose.protocols.racs.response import RacsRequest, RacsResponse
from iose.protocols.racs.status import StatusLine
from iose.transport.racs_client import RacsEndpoint
from iose.wire.errors import IoseError

REQUEST_NAME: Final = "RACS-Console"  # racs.md §4
LEAVE: Final = ("quit", "exit")
HELP: Final = "help"
STDIN: Final = "-"
BANNER: Final = "an empty line sends what was typed, help lists the commands, quit leaves"
COMMANDS: Final = """\
  LIST                              the elements you may see
  POWERON SEID                      hold an element and power it on
  APDU SEID HEX [CONTINUE=SW] [MORE=SW1] [FETCH=HEADER]
                                    send a command; stop at another status word; fetch the rest
  RESET SEID [WARM]                 reset it, by a cut of its power or warm
  SHUTDOWN SEID                     power it off and let it go
  GET-SEN SEID                      its name on the service plane
  SEN SEID [NAME [AID]]             give it a name, or take the name back
  ECHO TEXT, GET-VERSION, SET-VERSION 0.3, QUIT
APPEND at the end of a line keeps its answer; without it only the last one is told"""


@with_server
def shell(endpoint: RacsEndpoint) -> None:
    """Type requests; an empty line sends them.

    The lines before it go as one block. What a request powers on stays on until SHUTDOWN, or
    until you leave. Without a terminal, lines are read from stdin; iose racs run is for scripts.

    Raises:
        IoseError: The server could not be reached.
        KeyboardInterrupt: Nobody is at the terminal.
    """
    is_typed = sys.stdin.isatty()
    with BlockingRacsClient(endpoint) as client:
        for lines in _typed_blocks() if is_typed else _blocks(sys.stdin):
            try:
                _print_response(client.request(RacsRequest(tuple(lines), REQUEST_NAME)))
            except IoseError as fault:
                print_error(fault)  # the next request opens another session if need be
            except KeyboardInterrupt:
                if not is_typed:
                    raise
                print(file=sys.stderr)
                warn("the request may have been obeyed; its session is over, all it held is off")


@with_server
def run(
    endpoint: RacsEndpoint,
    file: Annotated[str, typer.Argument(help="Script of BEGIN … END blocks; - for stdin.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Run a script of BEGIN … END blocks.

    One command per line, // before comments. Prints every response. The exit status is 1 if one
    of them tells of a failure.

    Raises:
        IoseError: The script is malformed, or the server could not be reached.
        Exit: A response tells of a failure.
    """
    responses: list[RacsResponse] = []
    failure: IoseError | None = None
    try:
        requests = _requests(file)
        with BlockingRacsClient(endpoint) as client:
            for response in map(client.request, requests):
                responses.append(response)
                if not as_json:
                    _print_response(response)
    except IoseError as fault:
        failure = fault
    if as_json:
        error = None if failure is None else error_document(failure)
        print_json({"responses": [_document(response) for response in responses], "error": error})
    if failure is not None:
        raise failure
    if any(response.failure is not None for response in responses):
        raise typer.Exit(ExitStatus.FAILED)


def _requests(file: str) -> Iterable[RacsRequest]:
    if file == STDIN:
        return read_script(sys.stdin)  # a block runs when its END has come
    with open(file, encoding="utf-8", errors="surrogateescape") as script:
        return list(read_script(script))  # nothing runs of a script that is wrong somewhere


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for raw in lines:
        line = raw.strip()
        if line in LEAVE:
            break
        if line and not line.startswith(COMMENT):
            block.append(line)
        elif not line and block:
            yield block
            block = []
    if block:
        yield block


def _typed_blocks() -> Iterator[list[str]]:
    import_module("readline")  # gives input() its line editing and history
    print(BANNER, file=sys.stderr)
    block: list[str] = []
    while True:
        try:
            line = input("racs> " if not block else "....> ").strip()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            block = []
            continue
        except EOFError:
            print(file=sys.stderr)
            return
        if line in LEAVE:
            return
        if line == HELP:
            print(COMMANDS)
        elif line:
            block.append(line)
        elif block:
            yield block
            block = []


def _print_response(response: RacsResponse) -> None:
    print(f"BEGIN {response.name}".rstrip())
    for line in response.lines:
        print(line)
    print("END", flush=True)


def _document(response: RacsResponse) -> dict[str, Any]:
    return {"name": response.name, "lines": [_line(line) for line in response.lines]}


def _line(line: StatusLine) -> dict[str, Any]:
    return {
        "status": f"{line.sign}{line.event_class:d}{line.verb:02d}",
        "line": line.line,
        "text": line.text,
    }
