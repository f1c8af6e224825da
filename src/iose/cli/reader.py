# SPDX-License-Identifier: Apache-2.0
"""``iose reader``: the readers of a node and what is wrong with them, for its operator."""

import asyncio
from pathlib import Path
from typing import Final

import typer

from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import print_json
from iose.runtime.channel import Result
from iose.runtime.config import NodeConfig
from iose.runtime.control import connect_control
from iose.runtime.folder import DataFolder

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Real readers: list what is there; expose an element as a PC/SC reader.",
)

REQUEST_TIMEOUT_S: Final = 30.0


@app.callback()
def reader() -> None:
    """Real readers: list what is there; expose an element as a PC/SC reader."""


@app.command("list")
def list_readers(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the readers of the running node, and what is wrong with them."""
    document = _ask("reader.list", data)
    if as_json:
        print_json(document)


def _ask(op: str, data: Path | None) -> Result:
    folder = DataFolder(NodeConfig(data=str(data or "")).folder)

    async def ask() -> Result:
        async with connect_control(folder) as channel:
            return await channel.request(op, timeout_s=REQUEST_TIMEOUT_S)

    return asyncio.run(ask())
