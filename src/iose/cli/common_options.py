# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have in common, declared once."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder; $IOSE_DATA, else your own data folder.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration whose readers reader:SEID is of.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def with_options(
    command: Callable[..., None],
    shared: Iterable[tuple[str, object, object]],
    build: Callable[..., object],
) -> Callable[..., None]:
    """Return a command with the shared options behind its own.

    Args:
        command: Its first parameter is what ``build`` returns; the command line does not see it.
        shared: Name, annotation and default of each option.
        build: Called with all of them by name.
    """
    shared = tuple(shared)

    @wraps(command)
    def work(*arguments: object, **options: object) -> None:
        chosen = {name: options.pop(name) for name, _, _ in shared}
        command(build(**chosen), *arguments, **options)

    own = list(inspect.signature(command).parameters.values())[1:]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, kind, default in shared
    ]
    parameters = [*own, *more]
    work.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer asks for it
    work.__annotations__ = {one.name: one.annotation for one in parameters}
    return work
