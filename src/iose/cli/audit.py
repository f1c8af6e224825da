# SPDX-License-Identifier: Apache-2.0
"""``iose audit``: what administrators did, and whether the log of it is whole (docs/audit.md).

It reads files of the data folder, whether a node runs or not.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import harmless, print_json, print_table, warn
from iose.runtime.audit_chain import decode_head, last_head, verify_log
from iose.runtime.audit_view import AuditRecord, Wanted, read_records
from iose.runtime.config import NodeConfig
from iose.runtime.errors import ConfigurationError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="What administrators did: show, verify.",
)


@app.command()
def show(
    *,
    user: Annotated[str, typer.Option("--user", help="Of this user alone.")] = "",
    seid: Annotated[str, typer.Option("--seid", help="On this element alone.")] = "",
    since: Annotated[
        str, typer.Option("--since", help="From this time on, as 2026-01-31 or 2026-01-31T12:00.")
    ] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who asked for what, and how it ended.

    The oldest is first.
    """
    wanted = Wanted(user, seid, _time(since))
    records = read_records(_folder(data), wanted)
    if as_json:
        print_json({"entries": [one.to_json() for one in records]})
        return
    columns = (
        "number",
        "time",
        "user",
        "plane",
        "verb",
        "SEID",
        "header",
        "outcome",
        "status",
        "detail",
    )
    print_table(columns, map(_row, records))


@app.command()
def head(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Print the newest line's number and hash.

    Keep it where nobody who can write here can change it.
    """
    found = last_head(_folder(data))
    if as_json:
        print_json({"head": str(found), "sequence": found.sequence, "sha256": found.digest})
        return
    print(found)


@app.command()
def verify(
    *,
    since: Annotated[
        str, typer.Option("--since", help="A head printed earlier: what it covers must be here.")
    ] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that nothing in the log was changed, moved or taken out.

    Raises:
        ConfigurationError: Something was.
        Exit: The same, when it has been said in JSON; the exit status is 1, too.
    """
    kept = decode_head(since) if since else None
    verdict = verify_log(_folder(data), kept)
    if as_json:
        found = {"first": verdict.first, "head": str(verdict.head)}
        is_whole = not verdict.problems
        told = {"problems": list(verdict.problems), "notes": list(verdict.notes)}
        print_json({"whole": is_whole, **found, **told})
        if not is_whole:
            raise typer.Exit(1)
        return
    for note in verdict.notes:
        print(f"note: {harmless(note)}")
    for problem in verdict.problems:
        print(f"problem: {harmless(problem)}")
    if verdict.problems:
        raise ConfigurationError(
            "the audit log is not whole", hint="compare it with a copy; see docs/audit.md"
        )
    print(f"whole from number {verdict.first} to {verdict.head}")
    if kept is None:
        warn(
            "without a head kept elsewhere, lines cut off at the end are not noticed",
            "keep what 'iose audit head' prints, and give it with --since",
        )


def _folder(data: Path | None) -> Path:
    folder = NodeConfig(data=str(data or "")).folder / "audit"
    try:
        found = folder.exists()
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be looked at: {error.strerror}") from error
    if not found:
        raise ConfigurationError(
            f"there is no audit log at {folder}", hint="choose another data folder with --data DIR"
        )
    return folder


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no time", hint="write 2026-01-31 or 2026-01-31T12:00, in UTC"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _row(one: AuditRecord) -> list[str]:
    number, status = str(one.sequence), one.status or one.code
    what = (one.verb, one.seid, one.header, one.outcome, status, one.detail)
    return [number, one.time, one.user, one.plane, *what]
