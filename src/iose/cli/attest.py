# SPDX-License-Identifier: Apache-2.0
"""``iose attest``: verify an element, take it over, keep the evidence, verify evidence of others.

What was verified and what was not is said in words; anything that does not hold is exit status 1.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from iose.cli.call import IdentityOption, TimeoutOption, open_element
from iose.cli.common_options import JsonOption
from iose.cli.output import error_document, harmless, print_json, warn
from iose.client.attestation.authority import load_authority
from iose.client.attestation.evidence import (
    MAX_EVIDENCE_SIZE,
    Evidence,
    describe,
    not_proved_offline,
    proved_offline,
)
from iose.client.attestation.result import DEMO_AUTHORITY, Attestation, Expectations
from iose.client.blocking import Element
from iose.client.codec import read_text
from iose.client.dialogue import DEFAULT_TIMEOUT_S
from iose.client.errors import AttestationError, CredentialsError
from iose.client.uri import ElementUri
from iose.wire.errors import DecodeError, IoseError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_HASH: Final = re.compile(r"[0-9A-Fa-f]{64}")


UriOrNone = Annotated[
    str | None, typer.Argument(help="As in keyS://name@host:port/; none with --verify.")
]
AuthorityOption = Annotated[
    str,
    typer.Option(
        "--ca", metavar="KEYFILE|HEX|demo", help="Public key of whoever certifies elements."
    ),
]
TakeOverOption = Annotated[
    bool, typer.Option("--take-over", help="Then change its PSK in the same session, and keep it.")
]
HashOption = Annotated[
    str | None,
    typer.Option("--expect-hash", help="SHA-256 of the package its code must come from."),
]
StatementOption = Annotated[
    bool,
    typer.Option("--require-statement", help="Refuse one that does not state what it is."),
]
CopyOption = Annotated[
    bool, typer.Option("--accept-copy", help="Take over an element that is marked as a copy.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="New file for the evidence; it holds no secret.")
]
EvidenceOption = Annotated[
    Path | None, typer.Option("--verify", help="Verify evidence in a file instead.")
]


@app.command()
def attest(  # noqa: PLR0913  # every option of the command line
    uri: UriOrNone = None,
    *,
    authority: AuthorityOption,
    takes_over: TakeOverOption = False,
    expect_hash: HashOption = None,
    requires_statement: StatementOption = False,
    accepts_copy: CopyOption = False,
    out: OutOption = None,
    evidence: EvidenceOption = None,
    identity: IdentityOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Verify an element: its certificate, its proof for this session, its statement on itself.

    With --take-over its PSK is changed in the same session, so that whoever gave it to you has no
    key any more; both keys are kept until a session under the new one confirms it.

    Raises:
        BadParameter: Options that do not go together.
        IoseError: Something does not hold, or the element could not be reached.
    """
    if (uri is None) == (evidence is None):
        raise typer.BadParameter("give the URI of an element, or --verify with a file")
    if evidence is not None and (takes_over or out is not None):
        raise typer.BadParameter("--take-over and --out need an element, not evidence")
    expected = Expectations(_authority(authority), _package_hash(expect_hash), requires_statement)
    if evidence is not None:
        _verify_evidence(evidence, expected, as_json=as_json)
        return
    target = ElementUri.decode(uri or "")
    with _Report(target, as_json=as_json) as report, _new_file(out) as file:
        with open_element(target, identity=identity, timeout_s=timeout) as element:
            report.attestation = _attest(
                element, expected, takes_over=takes_over, accepts_copy=accepts_copy
            )
        report.is_taken_over = takes_over
        if file is not None:
            file.write(_evidence(report.attestation))
            file.flush()
            report.file = out


def _attest(
    element: Element, expected: Expectations, *, takes_over: bool, accepts_copy: bool
) -> Attestation:
    asked: dict[str, Any] = {
        "package_hash": expected.package_hash,
        "requires_statement": expected.requires_statement,
    }
    if takes_over:
        return element.take_over(expected.authority, accepts_copy=accepts_copy, **asked)
    return element.attest(expected.authority, **asked)


class _Report:
    """Prints what was found when the block ends, whether it failed or not."""

    def __init__(self, target: ElementUri, *, as_json: bool) -> None:
        self._target = target
        self._as_json = as_json
        self.attestation: Attestation | None = None
        self.is_taken_over = False
        self.file: Path | None = None

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: object) -> None:
        if fault is not None and not isinstance(fault, IoseError):
            return
        if self._as_json:
            print_json(self._document(fault))
        elif self.attestation is not None:
            print_attestation(self.attestation)
            if self.is_taken_over:
                print("taken over: its PSK is a new one, confirmed by a session and kept")
            elif fault is None:
                print("its PSK is as before: whoever gave it to you can still use it")
            if self.file is not None:
                print(f"the evidence is in {self.file}")

    def _document(self, fault: IoseError | None) -> dict[str, Any]:
        found = self.attestation
        return {
            "sen": self._target.sen,
            **({} if found is None else describe(found)),
            "verified": [] if found is None else list(found.verified()),
            "not_verified": [] if found is None else list(found.not_verified()),
            "taken_over": self.is_taken_over,
            "file": None if self.file is None else str(self.file),
            "error": None if fault is None else error_document(fault),
        }


def print_attestation(attestation: Attestation) -> None:
    """Print what an element showed, and what of it was verified, for people."""
    print(f"element            {harmless(attestation.sen)}")
    print(f"application        {harmless(attestation.version)}")
    print(f"application key    {attestation.public_key.hex()}")
    stated = attestation.statement
    if stated is not None:
        print(f"SEID               {harmless(read_text(stated.seid)) or 'not given'}")
        applet = f"{read_text(stated.module)} {read_text(stated.version)}".strip()
        print(f"applet             {harmless(applet) or 'not said'}")
        print(f"package hash       {stated.package_hash.hex()}")
        print(f"life cycle         {stated.life_cycle:02X}")
        print(f"copy               {'YES' if stated.is_copy else 'no'}")
        if stated.is_copy:
            warn(
                "the element is marked as a copy: another may hold the same keys",
                "ask its provider for one that was never copied",
            )
    _print_points("verified", attestation.verified())
    _print_points("not verified", attestation.not_verified())


def _print_points(title: str, points: Sequence[str]) -> None:
    print(f"{title}:")
    for point in points:
        print(f"  - {harmless(point)}")


def warn_of_demo() -> None:
    """Print the warning that goes with the published key of an authority."""
    warn(
        "THIS AUTHORITY'S PRIVATE KEY IS PUBLISHED: anybody can certify anything with it",
        "only for demonstrations; iose element certify --new-ca FILE makes a key of your own",
    )


def _authority(source: str) -> bytes:
    key = load_authority(source)
    if key == DEMO_AUTHORITY:
        warn_of_demo()
    return key


def _package_hash(digits: str | None) -> bytes | None:
    if digits is None:
        return None
    if not _HASH.fullmatch(digits):
        raise typer.BadParameter("expected 64 hex digits", param_hint="--expect-hash")
    return bytes.fromhex(digits)


@contextmanager
def _new_file(path: Path | None) -> Iterator[TextIO | None]:
    # made before the element is asked for anything: a take-over is not the time to fail
    if path is None:
        yield None
        return
    try:
        file = path.open("x", encoding="ascii")
    except OSError as fault:
        hint = "name another" if isinstance(fault, FileExistsError) else None
        raise CredentialsError(f"{path}: {(fault.strerror or '').lower()}", hint=hint) from None
    try:
        with file:
            yield file
    except BaseException as fault:
        path.unlink(missing_ok=True)
        if isinstance(fault, OSError):  # a full disk: what was found, and done, is reported still
            raise CredentialsError(f"{path}: {(fault.strerror or '').lower()}") from None
        raise


def _evidence(attestation: Attestation) -> str:
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    return Evidence(attestation, now).encode()


def _verify_evidence(path: Path, expected: Expectations, *, as_json: bool) -> None:
    found: Evidence | None = None
    failure: IoseError | None = None
    try:
        found = _load(path)
        found.verify(expected)
    except IoseError as fault:
        failure = fault
    proved = () if found is None or failure else proved_offline(found)
    open_points = () if found is None or failure else not_proved_offline(found)
    if as_json:
        print_json(
            {
                **({} if found is None else describe(found.attestation)),
                "saved_at": None if found is None else found.saved_at,
                "verified": list(proved),
                "not_verified": list(open_points),
                "error": None if failure is None else error_document(failure),
            }
        )
    if failure is not None:
        raise failure
    if not as_json:
        _print_points("verified", proved)
        _print_points("the saver's word", open_points)


def _load(path: Path) -> Evidence:
    try:
        with path.open("rb") as file:
            return Evidence.decode(file.read(MAX_EVIDENCE_SIZE + 1))
    except OSError as fault:
        raise CredentialsError(f"{path}: {fault.strerror}") from None
    except DecodeError as fault:
        raise AttestationError(f"{path}: {fault}", hint=fault.hint) from None
