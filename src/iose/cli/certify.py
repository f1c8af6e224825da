# SPDX-License-Identifier: Apache-2.0
"""``iose element certify``: a provider signs the key of an element, over TLS, once in its life.

It also makes the provider's own key. ``cli/element.py`` lists the command.
"""

from pathlib import Path
from typing import Annotated

import typer

from iose.cli.attest import print_attestation, warn_of_demo
from iose.cli.call import IdentityOption, TimeoutOption, open_element
from iose.cli.common_options import JsonOption
from iose.cli.output import print_json, warn
from iose.client.attestation.authority import (
    DEMO_AUTHORITY_PRIVATE,
    create_authority,
    load_authority_key,
)
from iose.client.attestation.evidence import describe
from iose.client.dialogue import DEFAULT_TIMEOUT_S
from iose.client.uri import ElementUri

UriOrNone = Annotated[
    str | None, typer.Argument(help="As in keyS://name@host:port/; none makes a key only.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--ca-key", metavar="FILE|demo", help="The provider's private key, PEM or hex."),
]
NewKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--new-ca",
        metavar="FILE",
        help="Make that key: a new file of mode 0600, the public half in FILE.pub.",
    ),
]
WithoutStatementOption = Annotated[
    bool,
    typer.Option("--without-statement", help="Certify an element that does not state what it is."),
]


def certify(  # noqa: PLR0913  # every option of the command line
    uri: UriOrNone = None,
    *,
    authority_key: KeyOption = None,
    new_authority: NewKeyOption = None,
    without_statement: WithoutStatementOption = False,
    identity: IdentityOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Certify an element's key, so that its users can attest it.

    The element takes one certificate in its life. Users get the provider's public key, and verify
    with iose attest --ca.

    Raises:
        BadParameter: Options that do not go together.
        IoseError: A key cannot be used, or the element is certified or could not be reached.
    """
    if (authority_key is None) == (new_authority is None):
        raise typer.BadParameter("give the provider's key with --ca-key, or --new-ca to make one")
    if uri is None and new_authority is None:
        raise typer.BadParameter("give the URI of the element to certify")
    target = None if uri is None else ElementUri.decode(uri)
    document: dict[str, object] = {}
    if new_authority is not None:
        document |= _new_authority(new_authority, as_json=as_json)
    if target is not None:
        private = load_authority_key(authority_key or str(new_authority))
        if private == DEMO_AUTHORITY_PRIVATE:
            warn_of_demo()
        with open_element(target, identity=identity, timeout_s=timeout) as element:
            attestation = element.certify(private, accepts_no_statement=without_statement)
        document |= {**describe(attestation), "certified": True}
        if attestation.signed is None:
            warn(
                "this element does not state what it is, and its host may sign with its key",
                "certify hardened elements with a key of their own, that never signs for others",
            )
        if not as_json:
            print_attestation(attestation)
            print(f"certified {target.address}")
    if as_json:
        print_json(document)


def _new_authority(path: Path, *, as_json: bool) -> dict[str, object]:
    public, beside = create_authority(path)
    if not as_json:
        print(f"the provider's private key is in {path}, its public key in {beside}")
        print(public.hex())
    return {
        "authority": public.hex(),
        "private_file": str(path),
        "public_file": str(beside),
    }
