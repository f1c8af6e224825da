# SPDX-License-Identifier: Apache-2.0
"""``iose shell``: an interactive session with an element, or a script of commands on stdin.

Lines go to the element as they are; history stays in memory, since lines may hold keys.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Final

import typer

from iose.cli.call import (
    IdentityOption,
    TimeoutOption,
    UriArgument,
    ask,
    open_element,
    print_answer,
    warn_of_lost_change,
)
from iose.cli.output import ExitStatus, print_error, print_table
from iose.client.blocking import Element
from iose.client.dialogue import DEFAULT_TIMEOUT_S
from iose.client.errors import SessionClosedError, SessionError
from iose.client.syntax import LEGEND, SYNTAX, UNKNOWN, syntax_of
from iose.client.uri import ElementUri
from iose.wire.errors import IoseError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

HELP: Final = "help"
LEAVE: Final = ("quit", "exit")


@app.command()
def shell(
    uri: UriArgument,
    *,
    identity: IdentityOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Talk with an element, line by line; help lists its commands.

    When the element has closed an idle session, a new one is opened for the next command.
    Without a terminal, lines are read from stdin, and the exit status is 1 if one of them failed.

    Raises:
        ElementUriError: The URI is malformed.
        IoseError: The element could not be reached.
        Exit: A line of a script failed.
        KeyboardInterrupt: A script was interrupted.
    """
    target = ElementUri.decode(uri)
    is_script = not sys.stdin.isatty()
    failures = 0
    with open_element(target, identity=identity, timeout_s=timeout) as element:
        warn_of_lost_change(element)
        for line in _lines(target, is_script=is_script):
            try:
                if (answer := _ask(element, line)) is None:
                    break
                print_answer(answer)
            except IoseError as fault:
                was_closed = isinstance(fault, SessionClosedError)
                if is_script and isinstance(fault, SessionError) and not was_closed:
                    raise
                failures += 1
                print_error(fault)
            except KeyboardInterrupt:
                if is_script:
                    raise
                print(file=sys.stderr)  # the session is closed; the next command opens another
    if is_script and failures:
        raise typer.Exit(ExitStatus.FAILED)


def _ask(element: Element, line: bytes) -> bytes | None:
    try:
        return ask(element, line)
    except SessionClosedError as end:
        if end.command_sent:  # it may have been obeyed: nobody sends it twice
            raise
    element.open()
    return ask(element, line)


def _lines(target: ElementUri, *, is_script: bool) -> Iterator[bytes]:
    yield from target.commands
    for text in _script() if is_script else _prompt(f"{target.sen}> "):
        word, _, rest = text.partition(" ")
        if text in LEAVE:
            return
        if word == HELP:
            _print_help(rest.strip())
        elif text:
            yield text.encode(errors="surrogateescape")


def _script() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\r\n").decode(errors="surrogateescape")


def _prompt(prompt: str) -> Iterator[str]:
    import_module("readline")  # gives input() its line editing and history
    print("help lists the commands, quit leaves", file=sys.stderr)
    while True:
        try:
            yield input(prompt).strip("\r\n")
        except KeyboardInterrupt:
            print(file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return


def _print_help(name: str) -> None:
    if not name:
        rows = [(syntax.form, syntax.meaning) for syntax in SYNTAX.values()]
        rows += [("help [command]", "this list, or one command"), ("quit", "leave")]
        print_table(("command", "meaning"), rows)
        print(LEGEND)
        return
    syntax = syntax_of(name.encode())
    if syntax is UNKNOWN:
        print(f"{UNKNOWN.meaning}: {UNKNOWN.if_refused}")
        return
    print(f"{syntax.form}: {syntax.meaning}")
    print(f"  after ERROR: {syntax.if_refused}")
