# SPDX-License-Identifier: Apache-2.0
"""``iose element``: the software elements of a data folder, for their owner.

A running node carries the work out; without one, a short-lived element host does.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.certify import certify
from iose.cli.common_options import DataOption, JsonOption
from iose.cli.output import print_json, print_table, warn
from iose.cli.passphrase import (
    PassphraseOptions,
    ask_passphrase,
    folder_passphrase,
    read_passphrase_file,
)
from iose.runtime.channel import Result, read_list, read_object
from iose.runtime.config import NodeConfig
from iose.runtime.elements.ownership import (
    Ask,
    check_there_is,
    export_element,
    import_element,
    open_ownership,
    save_secrets,
)
from iose.runtime.folder import DataFolder

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, create, show, rename, certify, export, import, delete software elements.",
)

COLUMNS: Final = ("SEN", "SEID", "state", "wire", "limits", "commands", "copy", "more instances")
DEMO_WARNING: Final = (
    "the element has published demo keys and PINs: anyone can use it and take it over"
)

ElementArgument = Annotated[str, typer.Argument(help="SEN or SEID of the element.")]
FileArgument = Annotated[Path, typer.Argument(help="File of the exported element.")]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="Passphrase of the exported file.")
]
FolderPassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", envvar="IOSE_PASSPHRASE_FILE", help="Passphrase of the data folder."
    ),
]


app.command()(certify)


@app.command("list")
def list_elements(
    *,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the elements of the data folder."""
    with _open(data) as ask:
        elements = [read_object(item) for item in read_list(ask("element.list", {}), "elements")]
    if as_json:
        print_json({"elements": elements})
    else:
        print_table(COLUMNS, (_row(element) for element in elements))
    _warn_of_repeated(elements)


@app.command()
def show(
    element: ElementArgument,
    *,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one element; its secrets are not shown."""
    with _open(data) as ask:
        view = read_object(ask("element.show", {"element": element})["element"])
    _print_element(view, as_json=as_json)


@app.command()
def create(  # noqa: PLR0913  # every option of the command line
    *,
    sen: Annotated[
        str | None, typer.Option("--sen", help="Name; key1.com, key2.com, … by default.")
    ] = None,
    wire: Annotated[str, typer.Option("--wire", help="hardened or compatible.")] = "hardened",
    limits: Annotated[str, typer.Option("--limits", help="wide or chip.")] = "wide",
    commands: Annotated[str, typer.Option("--commands", help="iose, 1.3 or 2.18.")] = "iose",
    demo_keys: Annotated[
        bool, typer.Option("--demo-keys", help="Published keys and PINs, for demonstrations.")
    ] = False,
    scp: Annotated[
        str, typer.Option("--scp", help="Secure channel of its security domain: 02 or 03.")
    ] = "03",
    scp_i: Annotated[
        str | None,
        typer.Option("--scp-i", metavar="HEX", help="Its options; 70 for 03 and 15 for 02."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an element with random keys and PINs."""
    plan: dict[str, object] = {
        "sen": sen,
        "wire": wire,
        "limits": limits,
        "commands": commands,
        "demo_keys": demo_keys,
        "scp": _hex_number(scp, "--scp"),
    }
    if scp_i is not None:
        plan["scp_i"] = _hex_number(scp_i, "--scp-i")
    with _open(data, makes_folder=True) as ask:
        view = read_object(ask("element.create", plan)["element"])
    if demo_keys:
        warn(DEMO_WARNING, "delete it when the demonstration is over")
    _print_element(view, as_json=as_json)


@app.command()
def rename(
    element: ElementArgument,
    sen: Annotated[str, typer.Argument(help="The new name, 1 to 15 characters.")],
    *,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an element another SEN; its keys stay."""
    with _open(data) as ask:
        answer = ask("element.rename", {"element": element, "sen": sen})
    _print_element(read_object(answer["element"]), as_json=as_json)


@app.command()
def unlock(
    element: ElementArgument,
    *,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give back every try: of PINs, PSK change and domain keys."""
    with _open(data) as ask:
        answer = ask("element.unlock", {"element": element})
    _print_element(read_object(answer["element"]), as_json=as_json)


@app.command()
def secrets(
    element: ElementArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="New file, made with mode 0600.")],
    again: Annotated[
        bool, typer.Option("--again", help="Though they were handed out before.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand an element's keys and PINs to its owner, once, in a file."""
    with _open(data) as ask:
        view = save_secrets(ask, element, out.absolute(), again=again)
    if as_json:
        print_json({"seid": view["seid"], "sen": view["sen"], "file": str(out.absolute())})
    else:
        print(f"the secrets of {view['sen'] or view['seid']} are in {out}")


@app.command("export")
def export(  # noqa: PLR0913  # every option of the command line
    element: ElementArgument,
    file: Annotated[Path | None, typer.Argument(help="New file, made with mode 0600.")] = None,
    *,
    copy: Annotated[
        bool, typer.Option("--copy", help="Leave the element here; both are marked as copies.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Keep an element whose move was cut, marked as a copy."),
    ] = False,
    passphrase_file: PassphraseOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move an element into an encrypted file.

    The same command again finishes a move that was cut.

    Raises:
        BadParameter: Neither a file nor --abandon is given.
    """
    if (file is None) != abandon:
        raise typer.BadParameter("give either FILE or --abandon")
    with _open(data) as ask:
        if file is None:
            view = read_object(ask("element.export.abandon", {"element": element})["element"])
        else:
            passphrase = _ExportPassphrase(passphrase_file, is_new=True)
            view = export_element(ask, element, file.absolute(), passphrase, is_copy=copy)
    _print_element(view, as_json=as_json)


@app.command("import")
def import_(
    file: FileArgument,
    *,
    passphrase_file: PassphraseOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move an element out of its file.

    The file is then removed; that of a copy stays.
    """
    with _open(data, makes_folder=True) as ask:
        view = import_element(ask, file.absolute(), _ExportPassphrase(passphrase_file))
    _print_element(view, as_json=as_json)


@app.command()
def delete(
    element: ElementArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete an element and all its keys, for good."""
    with _open(data) as ask:
        view = read_object(ask("element.show", {"element": element})["element"])
        if not yes:
            name = view["sen"] or view["seid"]
            typer.confirm(f"Delete {name} and its keys for good?", abort=True, err=True)
        ask("element.delete", {"element": view["seid"]})
    if as_json:
        print_json({"seid": view["seid"], "sen": view["sen"], "deleted": True})


@app.command()
def encrypt(
    *,
    passphrase_file: FolderPassphraseOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Encrypt a data folder that was made without a passphrase.

    No node may run on it. Cut, it is finished by the next command with the passphrase.
    """
    from iose.runtime.encryption import encrypt_folder  # noqa: PLC0415  # slow, and rarely used

    folder = DataFolder(NodeConfig(data=str(data or "")).folder)
    check_there_is(folder)
    options = PassphraseOptions(passphrase_file, is_asked=passphrase_file is None)
    lock = folder.hold()
    try:
        encrypt_folder(folder, options.read(is_new=True) or "")
    finally:
        lock.release()
    if as_json:
        print_json({"data": str(folder.path), "encrypted": True})
    else:
        print(
            f"{folder.path} is encrypted; iose finds its passphrase in IOSE_PASSPHRASE_FILE or asks"
        )


@contextmanager
def _open(data: Path | None, *, makes_folder: bool = False) -> Iterator[Ask]:
    path = NodeConfig(data=str(data or "")).folder
    with open_ownership(path, folder_passphrase(path).read, makes_folder=makes_folder) as ask:
        yield ask


@dataclass(frozen=True, slots=True)
class _ExportPassphrase:
    """The passphrase of an exported file, from a file or the terminal."""

    file: Path | None
    is_new: bool = False

    def __call__(self) -> str:
        if self.file is not None:
            return read_passphrase_file(self.file)
        return ask_passphrase("Passphrase of the exported element: ", is_new=self.is_new)


def _hex_number(text: str, option: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise typer.BadParameter(f"{option} takes hex digits, found {text!r}") from None


def _print_element(view: Result, *, as_json: bool) -> None:
    if as_json:
        print_json({"element": view})
    else:
        print_table(COLUMNS, [_row(view)])
    _warn_of_repeated([view])


def _warn_of_repeated(views: Iterable[Result]) -> None:
    """Warn of names that two TLS servers have, once each."""
    found = {str(sen).lower() for view in views for sen in read_list(view, "repeated_sens")}
    for sen in sorted(found):
        warn(
            f"more than one element or instance is named {sen!r}: only one of them is served",
            "give each its own name: iose element rename, or iose card delete and install again",
        )


def _row(view: Mapping[str, object]) -> list[str]:
    is_copy = "copy" if view["copy"] is True else ""
    names = ("sen", "seid", "state", "wire", "limits", "commands")
    return [*(str(view[name]) for name in names), is_copy, _instances(view)]


def _instances(view: Mapping[str, object]) -> str:
    """Return SEN and AID of what else can be selected; an AID alone has no name."""
    found = map(read_object, read_list(view, "instances"))
    return ", ".join(f"{one['sen']} {one['aid']}".strip() for one in found)
