# SPDX-License-Identifier: Apache-2.0
"""``iose reader``: the readers of a node, what is wrong with them and what to do.

Without a node, the command looks itself, at the readers of a configuration or at those of PC/SC.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import harmless, print_json, print_table
from iose.cli.reader_expose import expose, withdraw
from iose.runtime.channel import Result, read_list, read_object
from iose.runtime.config import LogSettings, NodeConfig, load_config
from iose.runtime.control import connect_control
from iose.runtime.errors import ControlError
from iose.runtime.folder import DataFolder
from iose.runtime.readers.settings import PcscSettings

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Real readers: list what is there; expose an element as a PC/SC reader.",
)

app.command()(expose)
app.command()(withdraw)

REQUEST_TIMEOUT_S: Final = 30.0
LONG_WAIT_S: Final = 1.0  # an answer that takes longer is spoken of
RECENT_S: Final = 3600.0  # a fault that is over is spoken of so long
COLUMNS: Final = ("bank", "reader", "SEID", "SEN", "state", "sessions", "failures", "slowest")
NO_TABLES: Final = (
    "the node has no readers → add a table [[readers]] to its configuration: docs/readers.md; "
    "then iose node reload"
)
NEXT_STEPS: Final = {
    "pcsc": "is the reader plugged in, does pcscd run (systemctl status pcscd.socket), is the "
    "extra installed (pip install 'iose[pcsc]')?",
    "racs": "does that node run, and has your certificate a rule that shows you its elements?",
    "racsl": "is the board on, and is the address right?",
    "sim-array": "is the array on, and is the address right?",
    "i2c": "is the bus enabled, the address right, and may you open the device?",
    "serial": "is the board plugged in, the device right, and may you open it?",
}
NO_WORDS: Final = {"absent": "not there", "fault": "does not work"}
IN_ORDER: Final = frozenset({"ready", "busy", "empty"})

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration whose readers are looked at without a node."),
]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Have the node look again first.")]


@app.callback()
def reader() -> None:
    """Real readers: list what is there; expose an element as a PC/SC reader."""


@app.command("list")
def list_readers(
    *,
    config: ConfigOption = None,
    refresh: RefreshOption = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List readers, and what is wrong with them.

    Below the table stands what to do. The node of the data folder is asked; where none runs, this
    command looks itself. A reader that does not work is listed, and no failure of this command.

    Raises:
        ControlError: The node does not answer.
        ConfigurationError: The configuration cannot be read.
    """
    settings = load_config(config) if config is not None else NodeConfig()
    folder = DataFolder((settings if data is None else NodeConfig(data=str(data))).folder)
    try:
        document, has_node = asyncio.run(_ask(folder, is_fresh=refresh)), True
    except ControlError:
        if folder.is_locked():  # it starts or stops, or is somebody else's
            raise
        document, has_node = _look(settings, folder, has_tables=config is not None), False
    if as_json:
        print_json(document)
        return
    if not has_node:
        print(f"no node runs on {harmless(str(folder.path))}; this command looked itself")
    readers = [read_object(one) for one in read_list(document, "readers")]
    print_table(COLUMNS, map(_row, readers))
    for line in _problem_lines(readers):
        print(harmless(line))
    for exposed in map(read_object, read_list({"exposed": [], **document}, "exposed")):
        print(harmless(_exposed(exposed)))


async def _ask(folder: DataFolder, *, is_fresh: bool) -> Result:
    async with connect_control(folder) as channel:
        if is_fresh:
            await channel.request("reader.refresh", timeout_s=REQUEST_TIMEOUT_S)
        return await channel.request("reader.list", timeout_s=REQUEST_TIMEOUT_S)


def _look(config: NodeConfig, folder: DataFolder, *, has_tables: bool) -> Result:
    from iose.runtime.logs import configure_logs  # noqa: PLC0415  # slow, and only here
    from iose.runtime.readers.look import look_at_readers  # noqa: PLC0415

    configure_logs(LogSettings(level="error", format="text"))
    tables = config.readers if has_tables else (PcscSettings("pcsc"),)
    readers = asyncio.run(look_at_readers(tables, folder.path, config.element))
    return {"readers": readers, "exposed": []}


def _row(one: Mapping[str, object]) -> list[str]:
    health = read_object(one.get("health"))
    slowest = health.get("slowest_s")
    return [
        *(str(one.get(name) or "") for name in ("bank", "reader", "seid", "sen", "state")),
        str(health.get("sessions", "")),
        str(health.get("failures", "")),
        f"{slowest:.3f} s" if isinstance(slowest, int | float) and slowest else "",
    ]


def _exposed(one: Mapping[str, object]) -> str:
    """Return what is said of an element in a virtual reader."""
    name = f"{one['sen']} ({one['element']})" if one["sen"] else one["element"]
    told = f"{name} is exposed at {one['address']} as a card of {one['protocol']}"
    if not one["fault"]:
        return f"{told} since {one['for_s']:.0f} s, {one['apdus']} commands"
    return f"{told}: {one['fault']}" + (f" → {one['hint']}" if one["hint"] else "")


def _problem_lines(readers: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Say each problem once, whatever many readers of a bank have it."""
    if not readers:
        yield NO_TABLES
    names: dict[tuple[str, str], list[str]] = {}
    for one in readers:
        for problem in _problems(one):
            names.setdefault((str(one["bank"]), problem), []).append(_name(one))
    for (_, problem), (first, *others) in names.items():
        yield f"{first}{f' and {len(others)} more' if others else ''}: {problem}"


def _name(one: Mapping[str, object]) -> str:
    return str(one.get("reader") or one.get("bank"))


def _problems(one: Mapping[str, object]) -> Iterator[str]:
    """Give what is wrong with a reader, and what to do about it."""
    state, fault, hint = (str(one.get(key) or "") for key in ("state", "fault", "hint"))
    health = read_object(one.get("health"))
    if fault or state not in IN_ORDER:
        step = hint or NEXT_STEPS.get(str(one["type"]), "")
        yield (fault or NO_WORDS.get(state, state)) + (f" → {step}" if step else "")
    elif state == "ready" and not one.get("sen"):
        yield (
            "the element has no server name; administrators alone reach it → "
            f'write sen = "NAME" in [element."{one.get("seid")}"]'
        )
    waiting = health.get("waiting_since_s")
    if isinstance(waiting, int | float) and waiting >= LONG_WAIT_S:
        yield f"an answer is waited for since {waiting:.0f} s"
    ago = health.get("last_fault_ago_s")
    past = str(health.get("last_fault") or "").removeprefix(f"{_name(one)}: ")
    if past not in ("", fault) and isinstance(ago, int | float) and ago < RECENT_S:
        yield f"{ago:.0f} s ago: {past}"
