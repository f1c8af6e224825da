# SPDX-License-Identifier: Apache-2.0
"""``iose pki``: the certificates of a node and of those who administer it (docs/pki.md).

It works on the data folder, whether a node runs or not; one that runs is told of every change.
"""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import print_json, print_table, warn
from iose.crypto import x509
from iose.crypto.x509 import CertificateFacts
from iose.runtime.config import NodeConfig
from iose.runtime.control import connect_control
from iose.runtime.elements.ownership import write_new_file
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import NEXT_STEPS, PRIVATE_FOLDER, DataFolder
from iose.runtime.own_authority import node_names
from iose.runtime.pki import IssuedCertificate, NewUser, Pki
from iose.runtime.racs_settings import RacsSettings
from iose.transport.racs_link import IDENTITY_FILES

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Certificates of a node and of its administrators.",
)

NODE_WAIT_S: Final = 15.0  # a node that is just starting, or its node process
TRIES: Final = 20
DEFAULT_DAYS: Final = 365
DAYS_LIMIT: Final = 3650  # the authority's own life

OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the files; NAME in this folder if not said."),
]
DaysOption = Annotated[
    int, typer.Option("--days", min=1, max=DAYS_LIMIT, help="How long it is valid.")
]
SelectorArgument = Annotated[str, typer.Argument(metavar="NAME|SERIAL")]


@app.command()
def init(
    *,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="One more name or address of the node; repeatable."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the authority of a data folder.

    ``iose up`` does so by itself. What is there stays; names that are new are added to the
    node's certificate.
    """
    folder = _data_folder(data)
    if not folder.exists():
        folder.hold().release()
    pki = _open(folder)
    is_changed = pki.ensure(node_names(RacsSettings(listen=(), names=tuple(name or ()))))
    if is_changed:
        _tell_node(folder, ["init"])
    if as_json:
        print_json({"pki": str(pki.path), "changed": is_changed})
        return
    print(f"{pki.path}: the operator's user.pem, user.key, and ca.pem, are there")


@app.command()
def user(  # noqa: PLR0913  # every option of the command line
    name: Annotated[str, typer.Argument(help="Who it is: the user's name in the node's rules.")],
    *,
    out: OutOption = None,
    days: DaysOption = DEFAULT_DAYS,
    request: Annotated[
        Path | None,
        typer.Option("--request", help="The user's certificate request, so that its key stays."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="One more certificate with the same rights.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a user's certificate.

    user.pem, user.key and ca.pem come into a folder to hand over.

    Raises:
        ConfigurationError: The name is taken or unfit, or files are in the way.
    """
    folder = _out_folder(name, out)
    content = None if request is None else request.read_bytes()
    data_folder = _data_folder(data)
    pki = _open(data_folder)
    made = pki.certify_user(name, timedelta(days=days), request=content, is_again=again)
    _hand_over(made, folder)
    _tell_node(data_folder, [_act("user", made.facts)])
    _print_made(made, folder, as_json=as_json)


@app.command()
def renew(
    selector: SelectorArgument,
    *,
    out: OutOption = None,
    days: DaysOption = DEFAULT_DAYS,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new certificate for the same key.

    The older one stays valid to its end.
    """
    folder = _data_folder(data)
    pki = _open(folder)
    target = None if out is None else _out_folder(selector, out)
    made = pki.renew(selector, timedelta(days=days))
    if target is not None:
        _hand_over(made, target)
    _tell_node(folder, [_act("renew", made.facts)])
    _print_made(made, target or pki.path, as_json=as_json)


@app.command()
def revoke(
    selector: SelectorArgument, *, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Revoke certificates by name, or one by its number.

    Every valid certificate of the name is meant. Sessions of a running node that use it end at
    once.
    """
    folder = _data_folder(data)
    revoked = _open(folder).revoke(selector)
    is_told = _tell_node(folder, [_act("revoke", facts) for facts in revoked])
    if as_json:
        told = {"node_told": is_told}
        print_json({"revoked": [_document(facts, "revoked") for facts in revoked], **told})
        return
    for facts in revoked:
        print(f"revoked {facts.name}, serial {facts.serial:x}")


@app.command("list")
def list_(*, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the certificates made here."""
    found = _open(_data_folder(data)).certificates()
    if as_json:
        print_json({"certificates": [_document(one.facts, one.state) for one in found]})
        return
    print_table(("name", "use", "state", "valid until", "serial"), map(_row, found))


@app.command()
def show(
    selector: Annotated[str | None, typer.Argument(metavar="NAME|SERIAL")] = None,
    *,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show certificates in full.

    Without a name, the authority's and the node's own.

    Raises:
        ConfigurationError: There is none of that name or serial number.
    """
    pki = _open(_data_folder(data))
    if selector is None:
        shown = [(x509.decode_certificate(pki.authority), "valid")]
        shown += [(one.facts, one.state) for one in pki.certificates() if one.facts.hosts]
    else:
        found = [one for one in pki.certificates() if _is_meant(one, selector)]
        if not found:
            raise ConfigurationError(f"no certificate has the name or serial number {selector!r}")
        shown = [(one.facts, one.state) for one in found]
    documents = [_document(facts, state) for facts, state in shown]
    if as_json:
        print_json({"pki": str(pki.path), "certificates": documents})
        return
    for document in documents:
        for key, value in document.items():
            print(f"{key:12} {', '.join(value) if isinstance(value, list) else value}")
        print()


def _data_folder(data: Path | None) -> DataFolder:
    return DataFolder(NodeConfig(data=str(data or "")).folder)


def _open(folder: DataFolder) -> Pki:
    if folder.exists() and folder.path.stat().st_uid != os.geteuid():
        # what another user wrote there, root too, the node could not read
        raise ConfigurationError(
            f"the data folder {folder.path} belongs to another user",
            hint="work as that user, or choose another one with --data DIR",
        )
    if not folder.exists():
        raise ConfigurationError(
            f"there is no data folder at {folder.path}",
            hint="'iose pki init' or 'iose up' makes one; or give --data DIR",
        )
    return Pki(folder.path)


def _out_folder(name: str, out: Path | None) -> Path:
    x509.check_name(name)
    if out is None and (os.sep in name or name.startswith(".")):
        raise ConfigurationError(f"{name!r} cannot name a folder", hint="give --out DIR")
    folder = out or Path(name)
    if any((folder / file).exists() for file in IDENTITY_FILES):
        raise ConfigurationError(
            f"{folder} holds a certificate already", hint="choose another folder with --out DIR"
        )
    return folder


def _hand_over(made: NewUser, folder: Path) -> None:
    try:
        folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        for name, content in (
            ("user.key", made.key),
            ("user.pem", made.certificate),
            ("ca.pem", made.authority),
        ):
            if content:
                write_new_file(folder / name, content)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}",
            hint=NEXT_STEPS.get(error.errno or 0, "choose another folder with --out DIR")
            + f"; take the certificate back with 'iose pki revoke {made.facts.serial:x}'",
        ) from error


def _act(verb: str, facts: CertificateFacts) -> str:
    return f"{verb} {facts.serial:x} {facts.name}"


def _tell_node(folder: DataFolder, acts: list[str]) -> bool:
    """Have a running node read its certificates and revocations anew, and write down what was done.

    Returns:
        Whether one did.
    """
    try:
        return asyncio.run(_try_telling(folder, acts))
    except ControlError as error:
        warn(f"the running node was not told: {error}", "'iose node reload' tells it")
        return False


async def _try_telling(folder: DataFolder, acts: list[str]) -> bool:
    for attempt in range(TRIES):
        if not folder.is_locked():
            return False
        try:
            async with connect_control(folder) as channel:
                await channel.request("trust", {"acts": acts}, timeout_s=NODE_WAIT_S)
                return True
        except ControlError:  # it, or its node process, is just starting
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(NODE_WAIT_S / TRIES)
    return False


def _print_made(made: NewUser, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**_document(made.facts, "valid"), "pki": str(folder)})
        return
    print(f"{made.facts.name}: valid until {made.facts.not_after:%Y-%m-%d}, in {folder}")
    if made.key:
        print(f"  hand over: the folder {folder}; whoever has user.key is {made.facts.name}")


def _is_meant(one: IssuedCertificate, selector: str) -> bool:
    return selector == one.facts.name or f"{one.facts.serial:x}" == selector.lower()


def _row(one: IssuedCertificate) -> list[str]:
    facts = one.facts
    until = f"{facts.not_after:%Y-%m-%d}"
    return [facts.name, facts.usage.value, one.state, until, f"{facts.serial:x}"]


def _document(facts: CertificateFacts, state: str) -> dict[str, object]:
    return {
        "name": facts.name,
        "use": facts.usage.value,
        "state": state,
        "serial": f"{facts.serial:x}",
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
        "hosts": list(facts.hosts),
        "fingerprint": f"sha256:{facts.fingerprint}",
    }
