# SPDX-License-Identifier: Apache-2.0
"""What every command prints with: tables on a terminal, one JSON document, errors on stderr.

Text that comes from an element is made harmless before a terminal sees it.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

import typer

from iose.client.errors import ElementUriError
from iose.wire.errors import IoseError

DEBUG_VARIABLE: Final = "IOSE_DEBUG"
REPORT_HINT: Final = (
    "this is a fault of iose: set IOSE_DEBUG=1 to see where, and report it with these lines"
)
# typer names one of its errors of usage; all of them come from the same class
USAGE_ERROR: Final = typer.BadParameter.__bases__[0]
_PSK_IN_URI: Final = re.compile(r"(://[^\s:@/]*:)[^\s@]*@")
_DIGITS: Final = re.compile(r"[0-9A-Fa-f]{32,}")


class ExitStatus(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    FAILED = 1
    USAGE = 2


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on a line of its own."""
    print(json.dumps(document), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns: framed on a terminal, tab-separated elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(map(harmless, row)))
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import, and not for pipes
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # a name cut short is of no use
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    Console().print(table)


def warn(message: str, hint: str | None = None) -> None:
    """Print a warning and its next step on stderr."""
    _print_problem("warning", message, hint)


def print_error(error: Exception) -> int:
    """Print what happened, then the next step, on stderr; return the exit status."""
    if os.environ.get(DEBUG_VARIABLE) == "1":
        print(_redacted("".join(traceback.format_exception(error))), file=sys.stderr)
    if isinstance(error, USAGE_ERROR):
        return _print_usage_error(error)
    if isinstance(error, typer.Abort):
        _print_problem("error", "nothing was done", None)
    elif isinstance(error, IoseError):
        _print_problem("error", str(error), error.hint)
    elif isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        place = "" if error.filename is None else f"{error.filename}: "
        _print_problem("error", f"{place}{error.strerror or error}", None)
    elif not isinstance(error, BrokenPipeError):  # who reads has seen enough
        message = _redacted(f"{type(error).__name__}: {error}")
        _print_problem("error", message, REPORT_HINT)
    return ExitStatus.USAGE if isinstance(error, ElementUriError) else ExitStatus.FAILED


def error_document(error: IoseError) -> dict[str, str | None]:
    """Return an error as it stands in a JSON document."""
    return {"type": type(error).__name__, "message": str(error), "hint": error.hint}


def harmless(text: str) -> str:
    """Return text whose control characters are spelled out, so that no terminal obeys them."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _print_usage_error(error: Exception) -> int:
    usage: Any = error  # typer does not name its class
    message = usage.format_message()
    if usage.ctx is None or "\n" in message:  # the help, for who typed nothing
        print(message, file=sys.stderr)
    else:
        found = _redacted(message[:1].lower() + message[1:].removesuffix("."))
        _print_problem("error", found, f"{usage.ctx.command_path} --help")
    return ExitStatus.USAGE


def _redacted(text: str) -> str:
    return _DIGITS.sub("***", _PSK_IN_URI.sub(r"\1***@", text))


def _without_keys(text: str) -> str:
    """Return text for a terminal; what was typed may come back in it, a URI with its key, too."""
    return harmless(_PSK_IN_URI.sub(r"\1***@", text))


def _print_problem(kind: str, message: str, hint: str | None) -> None:
    print(f"{kind}: {_without_keys(message)}", file=sys.stderr)
    if hint:
        print(f"  next: {_without_keys(hint)}", file=sys.stderr)
