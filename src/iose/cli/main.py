# SPDX-License-Identifier: Apache-2.0
"""The command line's front door: one typer application, a module for each group of commands."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


def main() -> None:
    """Run the command line."""
    app()
