# SPDX-License-Identifier: Apache-2.0
"""``iose up``: a node with software elements, ready in seconds, that prints their URIs."""

import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.common_options import DataOption
from iose.cli.output import print_json
from iose.cli.passphrase import PassphraseOptions
from iose.runtime.config import DEFAULT_LISTEN, NodeConfig, read_config
from iose.runtime.racs_settings import DEFAULT_RACS, OPERATOR_RULE
from iose.runtime.service import serve_node
from iose.runtime.supervisor import Supervisor

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SHOWN_LIMIT: Final = 8  # more than a screen of keys helps nobody

ElementsOption = Annotated[
    int, typer.Option("--elements", min=0, help="Make elements until there are so many.")
]
FrontOption = Annotated[
    str, typer.Option("--front", help="HOST:PORT to listen on; port 0 takes a free one.")
]
RacsOption = Annotated[
    str,
    typer.Option(
        "--racs", help="HOST:PORT of the administration plane; port 0 takes a free one, '' none."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON line when everything listens.")
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="IOSE_PASSPHRASE_FILE",
        help="Passphrase of the data folder; a new folder is encrypted with it.",
    ),
]
AskPassphraseOption = Annotated[
    bool, typer.Option("--ask-passphrase", help="Ask for the passphrase of the data folder.")
]


@app.command()
def up(  # noqa: PLR0913  # options of a command
    *,
    data: DataOption = None,
    elements: ElementsOption = 3,
    front: FrontOption = DEFAULT_LISTEN,
    racs: RacsOption = DEFAULT_RACS,
    as_json: JsonOption = False,
    passphrase_file: PassphraseFileOption = None,
    ask_passphrase: AskPassphraseOption = False,
) -> None:
    """Start a node with software elements and print their URIs; Ctrl-C stops it.

    Keys and PINs are random, and kept in the data folder between runs. What is printed holds
    keys: anyone who reads it can use the elements.
    """
    table: dict[str, object] = {
        "data": str(data or ""),
        "elements": elements,
        "front": {"listen": [front]},
        "log": {"level": "warning", "format": "text"},
    }
    if racs:
        table["racs"] = {"listen": [racs], "rules": [OPERATOR_RULE]}
    config = read_config(table)
    passphrase = PassphraseOptions(passphrase_file, is_asked=ask_passphrase)

    async def announce(supervisor: Supervisor) -> None:
        access = await supervisor.describe_access()
        if as_json:
            address = supervisor.addresses[0]
            document = {"ready": True, "front": address, **_administration(supervisor)}
            print_json({**document, "elements": access})
        else:
            _print_ready(config, supervisor, access)

    serve_node(config, passphrase.read, announce, reload_config=None, report=_report)


def _administration(supervisor: Supervisor) -> dict[str, str | None]:
    listening = supervisor.addresses_of("racs")
    racs = listening[0] if listening else None
    return {"racs": racs, "pki": str(supervisor.authority) if listening else None}


def _print_ready(config: NodeConfig, supervisor: Supervisor, access: list[dict[str, str]]) -> None:
    address = supervisor.addresses[0]
    print(f"{len(access)} elements at {address}, data in {config.folder}\n")
    for element in access[:SHOWN_LIMIT]:
        print(f"  {element['uri']}")
    if len(access) > SHOWN_LIMIT:
        print(f"  … and {len(access) - SHOWN_LIMIT} more: iose element list")
    if access:
        _print_examples(address, access[0])
    for racs in supervisor.addresses_of("racs"):
        print(f"""
Administration at {racs}, certificates in {supervisor.authority}:

  {_program()} racs list{_data_option(config)}""")
    print("\nStop with Ctrl-C.", flush=True)


def _data_option(config: NodeConfig) -> str:
    return f" --data {shlex.quote(str(config.folder))}" if config.data else ""


def _print_examples(address: str, element: dict[str, str]) -> None:
    psk = element["uri"].split(":")[2].partition("@")[0]
    print(f"""
Try it, from another terminal:

  {_program()} call '{element["uri"]}??00'

  openssl s_client -quiet -tls1_3 -connect {address} -servername {element["sen"]} \\
    -groups P-256 -ciphersuites TLS_AES_128_CCM_SHA256 \\
    -psk_identity {element["psk_identity"]} \\
    -psk {psk}
  and type ?00 (version), g00 (make a key), p00 (its public key), ?02 (end).""")


def _program() -> str:
    """Return how the reader calls iose: a checkout's own program is seldom on the PATH."""
    called, found = Path(sys.argv[0]), shutil.which("iose")
    is_on_path = found is not None and Path(found).resolve() == called.resolve()
    return "iose" if is_on_path or called.name != "iose" else shlex.quote(str(called))


def _report(name: str, what: str, number: int) -> None:
    with suppress(OSError):  # nobody reads; the process it tells of is started again all the same
        print(f"iose: {name} {what} ({number})", file=sys.stderr, flush=True)
