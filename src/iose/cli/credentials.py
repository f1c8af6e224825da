# SPDX-License-Identifier: Apache-2.0
"""``iose credentials``: the keys of elements someone uses. No command here prints a key."""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from iose.cli.call import (
    IdentityOption,
    TimeoutOption,
    UriArgument,
    open_element,
)
from iose.cli.common_options import ConfigOption, DataOption, JsonOption
from iose.cli.module_targets import (
    ModuleOption,
    PinFileOption,
    find_module,
    read_text,
)
from iose.cli.output import print_json, print_table, warn
from iose.cli.racs_access import PkiOption
from iose.client.credentials import Credential, CredentialsStore
from iose.client.dialogue import DEFAULT_TIMEOUT_S
from iose.client.errors import CredentialsError, ElementUriError
from iose.client.module import HopModule, RacsModule
from iose.client.module_place import ReaderModule
from iose.client.module_session import provision_module
from iose.client.uri import DEFAULT_IDENTITY, ElementUri, decode_psk

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keys of the elements I use; their values are never printed.",
)

FROM_STDIN = "-"


PskFileOption = Annotated[
    Path | None,
    typer.Option(
        "--psk-file",
        help="A file that holds the PSK: 64 hex digits, or the secrets that"
        " iose element secrets or iose card install wrote.",
    ),
]


@app.command(name="set")
def set_(  # noqa: PLR0913  # options of a command
    uri: Annotated[str, typer.Argument(help="The element's URI; - reads it from stdin.")],
    *,
    identity: IdentityOption = None,
    psk_file: PskFileOption = None,
    from_uri: Annotated[
        bool, typer.Option("--from-uri", help="Take the PSK that the URI holds.")
    ] = False,
    module: ModuleOption = None,
    pin_file: PinFileOption = None,
    button: Annotated[
        bool, typer.Option("--button", help="Have the other element wait for its button.")
    ] = False,
    config: ConfigOption = None,
    pki: PkiOption = None,
    data: DataOption = None,
    replaces: Annotated[
        bool, typer.Option("--replace", help="Forget another PSK that is kept for it.")
    ] = False,
) -> None:
    """Keep the PSK of an element, or where it is.

    It is asked for at a terminal, read from stdin or a file, or taken from the URI. With --module
    it stays in an identity module, whose PIN is asked for or read the same way.

    Raises:
        ElementUriError: The URI, the PSK or the module is malformed.
        CredentialsError: The credentials, or the file with the PSK, cannot be used, or another
            PSK is kept.
        IoseError: The element of the module cannot be found.
    """
    is_piped = uri == FROM_STDIN
    target = ElementUri.decode(sys.stdin.readline().strip() if is_piped else uri)
    name = identity or target.identity
    if module is not None:
        if from_uri or psk_file is not None or target.psk is not None:
            raise ElementUriError("found a PSK and --module", hint="leave one of them out")
        place = find_module(
            module, pin_file, is_confirmed=button, config=config, pki=pki, data=data
        )
        name = name or DEFAULT_IDENTITY
        _keep(Credential(target.address, identity=name, module=place), replaces=replaces)
        print(f"kept the module of {target.address}, identity {name}: {place}")
        return
    if pin_file is not None or button or config is not None:
        raise ElementUriError("--pin-file, --button and --config are for --module", hint=None)
    psk, owner = _given_psk(target, psk_file, from_uri=from_uri, is_piped=is_piped)
    if owner is not None and name not in (None, owner):
        raise CredentialsError(
            f"{psk_file}: expected the PSK of {name}, found that of {owner}",
            hint="leave --identity out, or write the PSK alone into a file",
        )
    name = name or owner or DEFAULT_IDENTITY
    _keep(Credential(target.address, psk, identity=name), replaces=replaces)
    print(f"kept the PSK of {target.address}, identity {name}")


@app.command(name="list")
def list_(*, as_json: JsonOption = False) -> None:
    """List the elements whose PSK, or whose module, is kept.

    A change of PSK is pending while nobody knows yet which of two keys the element keeps.

    Raises:
        CredentialsError: The credentials file cannot be used.
    """
    kept = CredentialsStore().credentials()
    if as_json:
        print_json(
            {
                "credentials": [
                    {
                        "sen": one.address.sen,
                        "host": one.address.host,
                        "port": one.address.port,
                        "identity": one.identity,
                        "change_pending": one.pending_psk is not None,
                        "module": None if one.module is None else str(one.module),
                    }
                    for one in kept
                ]
            }
        )
        return
    print_table(
        ("name", "host", "port", "identity", "change of PSK", "module"),
        [
            (
                one.address.sen,
                one.address.host,
                str(one.address.port),
                one.identity,
                "-" if one.pending_psk is None else "pending",
                _shown_module(one),
            )
            for one in kept
        ],
    )


@app.command()
def remove(uri: UriArgument, *, identity: IdentityOption = None) -> None:
    """Forget the PSK of an element, for one identity or for all.

    Raises:
        ElementUriError: The URI is malformed.
        CredentialsError: There is none, or the credentials file cannot be used.
    """
    target = ElementUri.decode(uri)
    count = CredentialsStore().remove(target.address, identity or target.identity)
    if not count:
        raise CredentialsError(
            f"no PSK is kept for {target.address}", hint="iose credentials list shows them"
        )
    print(f"forgot {count} PSK of {target.address}")


@app.command()
def rotate(
    uri: UriArgument,
    *,
    identity: IdentityOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Give an element a new random PSK, and keep it.

    The old one goes when the new one holds.

    Raises:
        ElementUriError: The URI is malformed.
        IoseError: The element could not be reached, or kept its old PSK.
    """
    target = ElementUri.decode(uri)
    with open_element(target, identity=identity, timeout_s=timeout) as element:
        element.change_psk()
    print(f"changed the PSK of {target.address}")


@app.command()
def provision(  # noqa: PLR0913  # options of a command
    module: Annotated[str, typer.Argument(help="The module, as after --module of set.")],
    *,
    psk_file: PskFileOption = None,
    pin_file: PinFileOption = None,
    config: ConfigOption = None,
    pki: PkiOption = None,
    data: DataOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Give an identity module a PSK, in place of the one it has.

    The PSK is asked for at a terminal, or read from stdin or a file; so is the PIN of the module's
    administrator, after it.

    Raises:
        ElementUriError: The module, the PSK or the PIN is malformed, or the module takes no PSK.
        CredentialsError: A file cannot be read.
        IoseError: The module cannot be found or reached, or refuses.
    """
    psk, _ = _read_psk("the module's target", psk_file)
    place = find_module(module, pin_file, config=config, pki=pki, data=data)
    if isinstance(place, HopModule):
        raise ElementUriError(
            "a module with another element gets its PSK over a session with it",
            hint="iose shell URI, and there ?A2 with 64 hex digits",
        )
    asyncio.run(provision_module(place, psk, timeout))
    print(f"gave the module its PSK: {place}")


def _keep(credential: Credential, *, replaces: bool) -> None:
    store = CredentialsStore()
    if replaces:
        store.save(credential)
    elif not (store.replace(None, credential) or store.replace(credential, credential)):
        raise CredentialsError(
            f"another PSK is kept for {credential.address}, identity {credential.identity}",
            hint="if it no longer holds, say --replace: nobody else may know it",
        )


def _given_psk(
    target: ElementUri, psk_file: Path | None, *, from_uri: bool, is_piped: bool
) -> tuple[bytes, str | None]:
    # the PSK, and whose it is where that was written down with it
    if not from_uri:
        if target.psk is not None:
            raise ElementUriError("the URI holds a PSK", hint="say --from-uri to keep that one")
        return _read_psk(str(target.address), psk_file)
    if target.psk is None:
        raise ElementUriError("the URI holds no PSK", hint="leave --from-uri out")
    if not is_piped:
        warn(
            "the PSK was on the command line, where the shell's history keeps it",
            "pipe the URI instead: iose credentials set --from-uri -",
        )
    return target.psk, None


def _shown_module(credential: Credential) -> str:
    match credential.module:
        case None:
            return "-"
        case RacsModule(pin=None) | ReaderModule(pin=None, needs_pin=True) as module:
            return f"{module} (its PIN was refused)"
        case module:
            return str(module)


def _read_psk(owner_of: str, psk_file: Path | None) -> tuple[bytes, str | None]:
    text = read_text(psk_file, f"PSK of {owner_of}, 64 hexadecimal digits: ")
    if psk_file is None or not text.startswith("{"):
        return decode_psk(text), None
    psk = owner = None
    with suppress(ValueError, RecursionError):
        fields = json.loads(text)
        psk, owner = fields.get("psk"), fields.get("psk_identity")
    if not (isinstance(psk, str) and isinstance(owner, str) and owner):
        raise CredentialsError(
            f"{psk_file}: holds no psk and psk_identity",
            hint="take the file that iose element secrets or iose card install wrote",
        )
    return decode_psk(psk), owner
