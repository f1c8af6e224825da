# SPDX-License-Identifier: Apache-2.0
"""``iose node``: run a node from a configuration file; look at, reload and stop a running one."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import print_json, print_table, warn
from iose.cli.passphrase import PassphraseOptions
from iose.runtime.channel import Result, read_list, read_object
from iose.runtime.config import NodeConfig, load_config
from iose.runtime.control import connect_control
from iose.runtime.errors import ControlError
from iose.runtime.folder import DataFolder

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="A node from a configuration file; its status.",
)

REQUEST_TIMEOUT_S: Final = 15.0
STOP_WAIT_S: Final = 30.0  # sessions get their time to end

ConfigOption = Annotated[Path, typer.Option("--config", help="TOML file.")]


@app.command()
def run(*, config: ConfigOption) -> None:
    """Run a node in the foreground, as a service manager wants it.

    SIGHUP reloads the file.
    """
    from iose.runtime import logs, service, supervisor  # noqa: PLC0415  # slow, and only here

    settings = load_config(config)
    logs.redirect_stderr(settings.log)
    logs.configure_logs(settings.log)
    named = settings.passphrase_file or os.environ.get("IOSE_PASSPHRASE_FILE")
    passphrase = PassphraseOptions(Path(named) if named else None)

    async def announce(running: supervisor.Supervisor) -> None:
        depot = running.depot
        racs = running.addresses_of("racs")
        logs.log_ready(running.addresses, racs, len(depot.records), depot.repeated_sens())

    service.serve_node(
        settings,
        passphrase.read,
        announce,
        reload_config=lambda: load_config(config),
        report=logs.log_process,
    )


@app.command()
def status(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show what the node of a data folder is doing."""
    document = _ask("status", data)
    if as_json:
        print_json(document)
        return
    addresses = ", ".join(str(address) for address in read_list(document, "front"))
    racs = ", ".join(str(address) for address in read_list({"racs": [], **document}, "racs"))
    planes = f"front {addresses or 'off'}, racs {racs or 'off'}"
    print(f"{planes}, up {document['uptime_s']} s, data {document['data']}")
    _warn_of(read_object(document.get("administration")))
    processes = map(read_object, read_list(document, "processes"))
    print_table(
        ("process", "pid", "up (s)", "restarts"),
        (_process_row(process) for process in processes),
    )
    elements = map(read_object, read_list(document, "elements"))
    print_table(
        ("SEN", "SEID", "state", "held by", "waiting", "sessions"),
        (_element_row(element) for element in elements),
    )
    for lost in map(read_object, read_list({"not_served": [], **document}, "not_served")):
        warn(
            f"the name {lost['sen']} does not lead to {lost['seid']}: another one has it",
            "give each its own name: iose element rename, or iose card delete and install again",
        )


@app.command("reload")
def reload_(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Read the configuration file again.

    What cannot change while the node runs is named.
    """
    document = _ask("reload", data)
    if as_json:
        print_json(document)
        return
    if fixed := read_list(document, "restart_needed_for"):
        warn(f"not applied yet: {', '.join(map(str, fixed))}", "restart the node for these")


@app.command()
def stop(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Stop the node of a data folder, and wait until it is gone."""
    document = _ask("stop", data, until_gone=True)
    if as_json:
        print_json({**document, "stopping": False, "stopped": True})


def _ask(op: str, data: Path | None, *, until_gone: bool = False) -> Result:
    folder = DataFolder(NodeConfig(data=str(data or "")).folder)

    async def ask() -> Result:
        async with connect_control(folder) as channel:
            answer = await channel.request(op, timeout_s=REQUEST_TIMEOUT_S)
            if until_gone:
                await channel.closed.wait()
            return answer

    answer = asyncio.run(ask())
    if until_gone and not folder.wait_unlocked(STOP_WAIT_S):
        raise ControlError(f"the node on {folder.path} is still stopping", hint="look again later")
    return answer


def _warn_of(administration: Mapping[str, object]) -> None:
    if fault := read_object(administration.get("audit")).get("fault"):
        warn(f"the audit log cannot be written: {fault}", "nobody can administer until it can")
    if administration.get("is_revocation_list_old") is True:
        warn(
            "the revocation list is older than it says it may be; it is obeyed all the same",
            "have who certifies make a new one, then 'iose node reload'",
        )


def _process_row(process: Mapping[str, object]) -> list[str]:
    pid = "down" if process["pid"] is None else str(process["pid"])
    return [str(process["name"]), pid, str(process["uptime_s"]), str(process["restarts"])]


def _element_row(element: Mapping[str, object]) -> list[str]:
    holder = read_object(element["holder"])
    held = ""
    if holder:
        held = f"{holder['plane']} {holder['source']} for {holder['for_s']} s"
    state = "degraded" if element["is_degraded"] is True else str(element["state"])
    waiting = len(read_list(element, "waiting"))
    return [
        str(element["sen"]),
        str(element["seid"]),
        state,
        held,
        str(waiting),
        str(element["sessions"]),
    ]
