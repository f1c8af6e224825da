# SPDX-License-Identifier: Apache-2.0
"""The command line's front door: names each command, and imports it when it is called.

Every module named here holds ``app``, a typer application. What an error looks like and the
exit status are settled here, once: 0 done, 1 failed, 2 wrong usage.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: Final = {
    "up": "A node with software elements, ready in seconds.",
    "node": "A node from a configuration file; its status.",
    "call": "Send a URI's commands to its element, print the answers.",
    "shell": "An interactive session with an element.",
    "element": "List, create, show, export, delete software elements.",
    "credentials": "Keys of the elements I use; values are never printed.",
    "attest": "Verify an element, and take it over.",
    "racs": "Elements by the administration plane: list, power, APDUs, scripts.",
    "card": "GlobalPlatform: list, install, delete, lock, put-key, over any reader.",
    "reader": "Real readers: list what is there; expose an element as a PC/SC reader.",
    "pki": "Certificates of a node and of its administrators.",
    "audit": "What administrators did: show, verify.",
    "bench": "Measure this machine.",
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    _complete_streams()
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as fault:
        status = _print_error(fault)
        # or Python would try again, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; errors are printed, none is raised."""
    group = typer.main.get_command(app)
    if isinstance(group, TyperGroup):
        for name, summary in COMMANDS.items():
            group.add_command(_Deferred(name, help=summary))
    try:
        status = group.main(args=list(arguments), prog_name="iose", standalone_mode=False)
    except SystemExit as end:
        status = end.code
    except Exception as fault:  # noqa: BLE001  # the top: no traceback ever reaches a user
        status = _print_error(fault)
    return status if isinstance(status, int) else 0


class _Deferred(TyperCommand):
    def make_context(self, *arguments: object, **options: object) -> typer.Context:
        command: Any = typer.main.get_command(import_module(f"iose.cli.{self.name}").app)
        _shorten_help(command)
        context: typer.Context = command.make_context(*arguments, **options)
        return context


def _shorten_help(command: object) -> None:
    if isinstance(command, TyperCommand | TyperGroup):
        # what a function raises is for who calls it, not for who types its name
        command.help = (command.help or "").partition("\n\nRaises:")[0]
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            _shorten_help(inner)


def _complete_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # for as long as we live
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal need not know every character
        sys.stdout.reconfigure(errors="backslashreplace")


def _print_error(fault: Exception) -> int:
    from iose.cli.output import print_error  # noqa: PLC0415  # only when something failed

    return print_error(fault)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # how typer calls it
    if wanted:
        typer.echo(f"iose {version('iose')}")
        raise typer.Exit


@app.callback()
def iose(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it and exit."
        ),
    ] = False,
) -> None:
    """TLS endpoints inside secure elements, reachable by URIs."""
