# SPDX-License-Identifier: Apache-2.0
"""``iose card``: what is on a card, and changes of it, through its issuer security domain.

Changes are planned first and shown; a run that was cut is finished by the same command.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from iose.cli.card_change import CardChange, open_manager, with_connection
from iose.cli.card_options import CardOptions, with_card
from iose.cli.card_requests import NewKeys, installation, names, resolve
from iose.cli.card_view import (
    CONTENT_COLUMNS,
    content_document,
    content_rows,
    information_document,
    information_rows,
)
from iose.cli.common_options import JsonOption
from iose.cli.output import harmless, print_json, print_table
from iose.client.cap_file import write_cap
from iose.client.card.changes import plan_default, plan_deletion, plan_lock
from iose.client.card.errors import CardManagementError, WrongKeysError
from iose.client.card.information import read_information
from iose.client.card.installation import plan_installation
from iose.client.card.key_files import PUBLISHED_KEYS
from iose.client.card.manager import CardManager, select_issuer_domain
from iose.client.card.plan import Plan
from iose.globalplatform.channel import SecureChannelError
from iose.globalplatform.keys import Diversification
from iose.runtime.errors import ConfigurationError
from iose.runtime.packages import shipped_packages
from iose.transport.base import Connection, Reader

SHIPPED_HINT: Final = "the packages are tls-se and tls-im"

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="GlobalPlatform: list, install, delete, lock, put-key, over any reader.",
)


TargetArgument = Annotated[
    str,
    typer.Argument(
        help="SEN or SEID of an element, racs://HOST:PORT/SEID, pcsc:READER, or reader:SEID."
    ),
]
NameArgument = Annotated[str, typer.Argument(help="AID in hex digits, tls-se or tls-im.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, and stop.")]


@app.command("list")
@with_card
def list_contents(
    options: CardOptions, target: TargetArgument, *, as_json: JsonOption = False
) -> None:
    """List what is on a card, its security domain included."""
    reader, keys = options.reader(target), options.card_keys()

    async def work(connection: Connection) -> None:
        manager = await open_manager(connection, options, reader.name, [keys])
        inventory = await manager.inventory()
        if as_json:
            print_json(content_document(inventory, names()))
        else:
            print_table(CONTENT_COLUMNS, content_rows(inventory, names()))

    with_connection(reader, work)


@app.command()
@with_card
def info(
    options: CardOptions,
    target: TargetArgument,
    *,
    check_published_keys: Annotated[
        bool,
        typer.Option(
            "--check-published-keys", help="Try the published keys; it may count as a failure."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a card says of itself; no keys are needed."""
    reader = options.reader(target)

    async def work(connection: Connection) -> None:
        aid = await select_issuer_domain(connection, options.issuer_domain())
        document: dict[str, Any] = {"issuer_domain": str(aid)}
        document |= information_document(await read_information(connection))
        rows = [("issuer domain", str(aid)), *information_rows(document)]
        if check_published_keys:
            found, words = await _takes_published(connection, options, reader.name)
            document["published_keys"] = found
            rows.append(("published keys", harmless(words)))
        if as_json:
            print_json(document)
        else:
            print_table(("what", "value"), rows)

    with_connection(reader, work)


@app.command()
@with_card
def install(  # noqa: PLR0913  # every option of the command line
    options: CardOptions,
    target: TargetArgument,
    package: Annotated[str, typer.Argument(help="tls-se, tls-im, or a .cap FILE.")],
    *,
    aid: Annotated[
        str | None, typer.Option("--aid", help="AID of the instance; else a free one.")
    ] = None,
    sen: Annotated[
        str | None, typer.Option("--sen", help="TLS server name of a tls-se instance.")
    ] = None,
    seid: Annotated[
        str | None, typer.Option("--seid", help="SEID the instance states; the element's own.")
    ] = None,
    secrets_out: Annotated[
        Path | None,
        typer.Option("--secrets-out", help="New file for keys and PINs, made with mode 0600."),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Have a reset select the instance.")
    ] = False,
    privileges: Annotated[
        str, typer.Option("--privileges", help="Names with commas, or 1 or 3 bytes in hex.")
    ] = "",
    params: Annotated[
        str | None, typer.Option("--params", help="Install parameters (C9) in hex digits.")
    ] = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Load a package and make an instance of its applet.

    Ours get random keys and PINs, which go to a new file first, then encrypted to the card. The
    same command again finishes a run that was cut.
    """
    reader = options.reader(target)
    request = installation(
        package,
        aid=aid,
        sen=sen,
        seid=seid or _seid(reader),
        secrets_out=secrets_out,
        privileges=privileges,
        is_default=default,
        params=params,
    )
    if sen is not None and secrets_out is not None and not secrets_out.exists():
        options.check_sen(reader, sen)  # a cut run did, and may have been served since

    async def plan(manager: CardManager) -> Plan:
        inventory = await manager.inventory()
        return plan_installation(inventory, request(inventory), manager.channel.block_size)

    change = CardChange(options, reader, [options.card_keys()], plan)
    change.run(is_yes=yes, is_dry=dry_run, as_json=as_json)


@app.command()
@with_card
def delete(  # noqa: PLR0913  # every option of the command line
    options: CardOptions,
    target: TargetArgument,
    name: NameArgument,
    *,
    related: Annotated[
        bool, typer.Option("--related", help="The package, and all instances of its applets.")
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete an application or a package, and all keys in it."""
    aid = resolve(name, is_package=related)

    async def plan(manager: CardManager) -> Plan:
        return plan_deletion(await manager.inventory(), aid, is_related=related)

    change = CardChange(options, options.reader(target), [options.card_keys()], plan)
    change.run(is_yes=yes, is_dry=dry_run, as_json=as_json)


@app.command()
@with_card
def lock(
    options: CardOptions,
    target: TargetArgument,
    name: NameArgument,
    *,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Lock an application, so that nobody can select it."""
    change = _lock_change(options, target, name, is_locked=True)
    change.run(is_yes=yes, is_dry=dry_run, as_json=as_json)


@app.command()
@with_card
def unlock(
    options: CardOptions,
    target: TargetArgument,
    name: NameArgument,
    *,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Unlock an application."""
    change = _lock_change(options, target, name, is_locked=False)
    change.run(is_yes=yes, is_dry=dry_run, as_json=as_json)


@app.command("default")
@with_card
def default_(
    options: CardOptions,
    target: TargetArgument,
    name: NameArgument,
    *,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have a reset select an application."""
    aid = resolve(name)

    async def plan(manager: CardManager) -> Plan:
        return plan_default(await manager.inventory(), aid)

    change = CardChange(options, options.reader(target), [options.card_keys()], plan)
    change.run(is_yes=yes, is_dry=dry_run, as_json=as_json)


@app.command("put-key")
@with_card
def put_key(  # noqa: PLR0913  # every option of the command line
    options: CardOptions,
    target: TargetArgument,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="New file for random keys, made with mode 0600.")
    ] = None,
    new_keys: Annotated[
        Path | None, typer.Option("--new-keys", help="File with the new keys, instead of random.")
    ] = None,
    new_version: Annotated[
        str | None, typer.Option("--new-version", help="Their version, two hex digits; the next.")
    ] = None,
    new_diversify: Annotated[
        Diversification,
        typer.Option("--new-diversify", help="The new keys are master keys; the card's follow."),
    ] = Diversification.NONE,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a card new keys, and prove them by a secure channel.

    Random keys go to a new file before the card gets them. The same command again finds out
    whether a cut run changed them.
    """
    reader, old = options.reader(target), options.card_keys()
    new = NewKeys(out, new_keys, new_version, new_diversify, card=_seid(reader))

    async def plan(manager: CardManager) -> Plan:
        return new.plan(manager.channel)

    change = CardChange(options, reader, [*new.known(), old], plan)
    change.run(is_yes=yes, is_dry=dry_run, as_json=as_json)


@app.command("export-package")
def export_package(
    package: Annotated[str, typer.Argument(help="tls-se or tls-im.")],
    file: Annotated[Path, typer.Argument(help="New CAP file.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a package of ours as a CAP file for other tools.

    Raises:
        ConfigurationError: There is no such package, or the file is there.
    """
    shipped = shipped_packages().get(package)
    if shipped is None:
        raise ConfigurationError(f"there is no package {package}", hint=SHIPPED_HINT)
    try:
        with file.open("xb") as opened:
            opened.write(write_cap(shipped.load_file, f"iose/{shipped.module}"))
    except FileExistsError as error:
        raise ConfigurationError(f"{file} exists already", hint="name a new file") from error
    aid = shipped.load_file.package_aid
    if as_json:
        print_json({"package": package, "aid": str(aid), "file": str(file)})
    else:
        print(f"{package}, {aid}, is in {file}")


def _lock_change(options: CardOptions, target: str, name: str, *, is_locked: bool) -> CardChange:
    aid = resolve(name)

    async def plan(manager: CardManager) -> Plan:
        return plan_lock(await manager.inventory(), aid, is_locked=is_locked)

    return CardChange(options, options.reader(target), [options.card_keys()], plan)


def _seid(reader: Reader) -> str:
    return str(getattr(reader, "seid", reader.name))


async def _takes_published(
    connection: Connection, options: CardOptions, name: str
) -> tuple[bool | None, str]:
    """Return whether the card takes the published keys, None when that cannot be told; in words."""
    try:
        await open_manager(connection, options, name, [PUBLISHED_KEYS])
    except WrongKeysError:
        return False, "refused"
    except (SecureChannelError, CardManagementError) as error:
        return None, f"cannot be told: {error}"
    return True, "ACCEPTED"
