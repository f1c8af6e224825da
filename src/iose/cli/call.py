# SPDX-License-Identifier: Apache-2.0
"""``iose call``: a URI's commands to its element, their answers to stdout."""

import sys
from getpass import getpass
from typing import Annotated, Final

import typer

from iose.cli.common_options import JsonOption
from iose.cli.output import error_document, harmless, print_json, warn
from iose.client.blocking import Element, connect
from iose.client.codec import read_text
from iose.client.dialogue import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S
from iose.client.errors import ElementUriError, MissingPskError, SessionClosedError
from iose.client.syntax import shown
from iose.client.uri import PSK_SIZE, ElementUri, decode_psk
from iose.wire.errors import IoseError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

CHANGE_PSK: Final = b"?AA"
END_SESSION: Final = b"?02"

UriArgument = Annotated[str, typer.Argument(help="As in keyS://name@host:port/?command")]
IdentityOption = Annotated[
    str | None, typer.Option("--identity", help="PSK identity, when it is not the usual one.")
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.1,
        max=MAX_TIMEOUT_S,
        help="Seconds for the handshake and each answer.",
    ),
]


@app.command()
def call(
    uri: UriArgument,
    *,
    as_json: JsonOption = False,
    identity: IdentityOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Send a URI's commands to its element, one after the other, and print the answers.

    The key comes from the URI, the credentials (iose credentials), or IOSE_PSK; a terminal is
    asked for it last. A command that begins with ? is written /??00.

    Raises:
        ElementUriError: The URI is malformed, or holds no command.
        IoseError: The element refused or could not be reached; the answers so far are printed.
    """
    target = ElementUri.decode(uri)
    if not target.commands:
        raise ElementUriError(
            "the URI holds no command", hint="write one after /? as in /?p00, or use iose shell"
        )
    answers: list[dict[str, str]] = []
    failure: IoseError | None = None
    try:
        with open_element(target, identity=identity, timeout_s=timeout) as element:
            warn_of_lost_change(element)
            for line in target.commands:
                if (answer := ask(element, line)) is None:
                    continue
                answers.append({"command": shown(line), "answer": read_text(answer)})
                if not as_json:
                    print_answer(answer)
    except IoseError as fault:
        failure = fault
    if as_json:
        print_json(
            {
                "sen": target.sen,
                "answers": answers,
                "error": None if failure is None else error_document(failure),
            }
        )
    if failure is not None:
        raise failure


def open_element(uri: ElementUri, *, identity: str | None, timeout_s: float) -> Element:
    """Return an element with an open session; a person at a terminal is asked for a missing key.

    Raises:
        MissingPskError: No key is known, and nobody is there to ask.
        IoseError: As for ``iose.connect``.
    """
    if uri.psk is not None:
        warn(
            "the PSK is on the command line, where other users and the shell's history see it",
            f"iose credentials set '{uri.scheme}://{uri.address}/', then leave it out",
        )
    try:
        return connect(uri, identity=identity, timeout_s=timeout_s)
    except MissingPskError:
        if not sys.stdin.isatty():
            raise
    psk = decode_psk(getpass(f"PSK of {uri.address}, 64 hexadecimal digits: "))
    return connect(uri, psk=psk, identity=identity, timeout_s=timeout_s)


def warn_of_lost_change(element: Element) -> None:
    """Print that the element still takes its old PSK, when it was asked to change it."""
    if element.is_change_lost:
        uri = element.uri
        warn(
            "a change of this element's PSK is not settled: its old PSK still opens a session, "
            "which whoever knows that one could answer",
            f"iose credentials rotate '{uri.scheme}://{uri.address}/' asks for the change again",
        )


def ask(element: Element, line: bytes) -> bytes | None:
    """Return the answer to a line, or None when the session ended as the line asked.

    A change of PSK is done so that no key is lost.

    Raises:
        SessionClosedError: The session ended otherwise.
        IoseError: As for ``Element.run``, and for ``Element.change_psk``.
    """
    if line[:3].upper() == CHANGE_PSK:
        try:
            psks = bytes.fromhex(line[3:].decode())
        except ValueError:
            psks = b""
        old, new = psks[:PSK_SIZE], psks[PSK_SIZE:]
        if len(new) == PSK_SIZE and element.has_psk(old):
            element.change_psk(new)
            return b"OK"  # the element repeats the key: nobody prints it
    try:
        return element.command(line)
    except SessionClosedError:
        if line[:3] == END_SESSION:
            return None
        raise


def print_answer(answer: bytes) -> None:
    """Print an answer: as it is into a pipe, harmless on a terminal."""
    if sys.stdout.isatty():
        print(harmless(read_text(answer)), flush=True)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
