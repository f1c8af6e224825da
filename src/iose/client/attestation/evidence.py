# SPDX-License-Identifier: Apache-2.0
"""An attestation as a JSON document, and what anybody can verify of it later, without the element.

The document holds no secret: of the session's secret it has a digest and an exporter value. That
both are of a session with the element is the word of whoever saved it.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from iose.client.attestation.checks import (
    verify_certificate,
    verify_proof_digest,
    verify_statement,
)
from iose.client.attestation.procedure import check_statement
from iose.client.attestation.result import Attestation, Expectations
from iose.client.codec import CERTIFICATE_SIZE, PUBLIC_KEY_SIZE, read_text
from iose.client.errors import AttestationError
from iose.client.signature import DIGEST_SIZE
from iose.crypto.errors import CryptoError
from iose.protocols.attestation import CHALLENGE_SIZE, SignedStatement
from iose.wire.errors import DecodeError

FORMAT: Final = "iose attestation"
FORMAT_VERSION: Final = 1
MAX_EVIDENCE_SIZE: Final = 65_536  # some 3 000 are usual


@dataclass(frozen=True, slots=True)
class Evidence:
    """An attestation that was saved.

    Attributes:
        attestation: What the element showed.
        saved_at: When, in the words of whoever saved it (RFC 3339).
    """

    attestation: Attestation
    saved_at: str

    def encode(self) -> str:
        """Return the document, indented for people."""
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "saved_at": self.saved_at,
            **describe(self.attestation),
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def decode(cls, content: bytes) -> "Evidence":
        """Return the evidence in a document; nothing is verified.

        Raises:
            DecodeError: It is none, a newer program wrote it, or it shows people something else
                than what was signed.
        """
        document: Any = None
        with suppress(ValueError, RecursionError):
            document = json.loads(content) if len(content) <= MAX_EVIDENCE_SIZE else None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise DecodeError("expected the evidence of an attestation, found something else")
        if document.get("format_version") != FORMAT_VERSION:
            raise DecodeError(
                f"expected evidence of version {FORMAT_VERSION}, found another",
                hint="it was written by a newer iose: upgrade this one",
            )
        attestation = _decode_attestation(document)
        if any(document.get(name) != value for name, value in describe(attestation).items()):
            raise DecodeError("what the evidence shows people is not what was signed")
        return cls(attestation, _text(document, "saved_at"))

    def verify(self, expected: Expectations) -> None:
        """Check every signature and that the statement belongs to the rest.

        Raises:
            AttestationError: Something does not hold.
        """
        shown = self.attestation
        if shown.expected.authority != expected.authority:
            raise AttestationError("the evidence is for another authority")
        try:
            verify_certificate(expected.authority, shown.public_key, shown.certificate)
        except CryptoError:
            raise AttestationError("the key was not certified by this authority") from None
        try:
            verify_proof_digest(shown.public_key, shown.proof_digest, shown.proof)
            if shown.signed is not None:
                exporter = shown.signed.statement().exporter
                verify_statement(shown.public_key, exporter, shown.challenge, shown.signed)
                check_statement(shown.signed, shown.sen, expected.package_hash)
        except (CryptoError, DecodeError) as fault:
            raise AttestationError(f"a signature of the element does not hold: {fault}") from None
        if shown.signed is None and expected.needs_statement:
            raise AttestationError("the evidence holds no statement of the element on itself")


def describe(attestation: Attestation) -> dict[str, Any]:
    """Return an attestation as it stands in JSON documents; bytes are lower-case hex."""
    stated = attestation.statement
    return {
        "sen": attestation.sen,
        "version": attestation.version,
        "authority": attestation.expected.authority.hex(),
        "public_key": attestation.public_key.hex(),
        "certificate": attestation.certificate.hex(),
        "challenge": attestation.challenge.hex(),
        "proof": attestation.proof.hex(),
        "proof_digest": attestation.proof_digest.hex(),
        "statement": None
        if attestation.signed is None or stated is None
        else {
            "sen": read_text(stated.sen),
            "seid": read_text(stated.seid),
            "module": read_text(stated.module),
            "version": read_text(stated.version),
            "package_hash": stated.package_hash.hex(),
            "life_cycle": stated.life_cycle,
            "copy": stated.is_copy,
            "exporter": stated.exporter.hex(),
            "content": attestation.signed.content.hex(),
            "signature": attestation.signed.signature.hex(),
        },
    }


def proved_offline(evidence: Evidence) -> tuple[str, ...]:
    """Return what verified evidence shows to anybody, one sentence each."""
    found = ["the authority certified the application key"]
    stated = evidence.attestation.statement
    if stated is None:
        found.append("that key signed the digest in the evidence")
    else:
        found.append(
            f"that key signed the statement: name {read_text(stated.sen)}, "
            f"SEID {read_text(stated.seid) or 'not given'}, package {stated.package_hash.hex()}, "
            f"{'a copy' if stated.is_copy else 'not marked as a copy'}"
        )
        found.append("the statement answers the challenge in the evidence")
    return tuple(found)


def not_proved_offline(evidence: Evidence) -> tuple[str, ...]:
    """Return what evidence leaves to the word of whoever saved it, one sentence each."""
    return (
        "that the saver's session was with the element: exporter value and proof digest are of a "
        "session whose secret only its two ends knew",
        f"when it was: {evidence.saved_at} is what the saver wrote",
        "that it is still so",
    )


def _decode_attestation(document: dict[str, Any]) -> Attestation:
    statement = document.get("statement")
    if statement is not None and not isinstance(statement, dict):
        raise DecodeError("expected a statement in the evidence, found something else")
    signed = None
    if statement is not None:
        signed = SignedStatement(_hex(statement, "content"), _hex(statement, "signature"))
        signed.statement()  # what is not one is refused here
    return Attestation(
        sen=_text(document, "sen"),
        version=_text(document, "version"),
        expected=Expectations(_hex(document, "authority", PUBLIC_KEY_SIZE)),
        public_key=_hex(document, "public_key", PUBLIC_KEY_SIZE),
        certificate=_hex(document, "certificate", CERTIFICATE_SIZE),
        challenge=_hex(document, "challenge", CHALLENGE_SIZE),
        proof=_hex(document, "proof"),
        proof_digest=_hex(document, "proof_digest", DIGEST_SIZE),
        signed=signed,
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise DecodeError(f"expected a text for {name} in the evidence")
    return value


def _hex(document: dict[str, Any], name: str, size: int | None = None) -> bytes:
    try:
        value = bytes.fromhex(_text(document, name))
    except ValueError:
        raise DecodeError(f"expected hexadecimal digits for {name} in the evidence") from None
    if size is not None and len(value) != size:
        raise DecodeError(f"expected {size} bytes for {name}, found {len(value)}")
    return value
