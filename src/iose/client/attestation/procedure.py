# SPDX-License-Identifier: Apache-2.0
"""The procedure: key, certificate, proof, statement, change of PSK, all in one session.

Coroutines over a ``Dialogue``, as its own are. Whatever does not hold ends in an error, with the
session closed: no caller goes on by mistake.
"""

from typing import Final

from iose.client.access import SystemRng
from iose.client.attestation.checks import (
    proof_digest,
    verify_certificate,
    verify_proof,
    verify_statement,
)
from iose.client.attestation.commands import begin_statement, statement_piece
from iose.client.attestation.result import Attestation, Expectations
from iose.client.codec import CERTIFICATE_SIZE
from iose.client.commands import (
    application_public_key,
    certificate,
    prove,
    set_certificate,
    version,
)
from iose.client.dialogue import Dialogue
from iose.client.errors import AttestationError, SessionClosedError
from iose.client.signature import decode_signature
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto
from iose.protocols.attestation import (
    CHALLENGE_SIZE,
    EXPORTER_LABEL,
    EXPORTER_SIZE,
    SignedStatement,
)
from iose.wire.errors import DecodeError, IoseError

STATING_VERSIONS: Final = "iose keystore/"  # others would end the session when asked
_CRYPTO: Final = PycaCrypto()
_STATEMENT_HINT: Final = (
    "only hardened elements with the commands of iose make one; if this is one, somebody on the "
    "way may have cut the connection: try again"
)
_OTHER_END: Final = "do not use it: somebody may stand between you and the element"


async def attest(dialogue: Dialogue, expected: Expectations) -> Attestation:
    """Return what the element showed, all of it verified, in the session that is open.

    Whether it makes statements is asked in that session too, which its proof is of: who cuts the
    connection prevents the attestation, but not the statement alone.

    Raises:
        AttestationError: Something does not hold; the session is closed.
        IoseError: As for ``Dialogue.exchange``; the session is closed.
    """
    try:
        shown = await dialogue.exchange(version())
        asks = expected.needs_statement or shown.startswith(STATING_VERSIONS)
        return await _attest_session(dialogue, expected, shown, asks=asks)
    except IoseError:
        await dialogue.close()
        raise


async def take_over(
    dialogue: Dialogue,
    expected: Expectations,
    new: bytes | None = None,
    *,
    accepts_copy: bool = False,
) -> Attestation:
    """Attest, change the PSK in the same session, and confirm it by a new one under the new key.

    Args:
        dialogue: With an open session.
        expected: What the element must show.
        new: The new PSK; None draws one.
        accepts_copy: Take over an element although another may hold the same keys.

    Raises:
        AttestationError: Something does not hold; the PSK is as it was, the session is closed.
        IoseError: As for ``Dialogue.exchange`` and ``Dialogue.change_psk``; the session is closed.
    """
    attestation = await attest(dialogue, expected)
    if attestation.is_copy and not accepts_copy:
        await dialogue.close()
        raise AttestationError(
            "the element is marked as a copy: another may hold the same keys",
            hint="its PSK was not changed; ask its provider for one that was never copied",
        )
    try:
        await dialogue.change_psk(new, is_attested=True)
    except IoseError:
        await dialogue.close()  # also one under the old PSK, with whoever else has that
        raise
    return attestation


async def certify(
    dialogue: Dialogue, authority_private: bytes, *, accepts_no_statement: bool = False
) -> Attestation:
    """Sign the application key of an element, store the certificate, and verify all of it.

    The key is signed after its holder has proved to be at the other end of the session, and has
    stated what it is.

    Args:
        dialogue: With an open session.
        authority_private: The provider's key.
        accepts_no_statement: Certify an element that does not state what it is, too.

    Raises:
        AttestationError: There is a certificate already, the element makes no statement, or
            something does not hold; nothing was signed unless the certificate was stored.
        CryptoError: The authority's key is not a scalar of secp256k1.
        IoseError: As for ``Dialogue.exchange``.
    """
    authority = _CRYPTO.public_key(Curve.SECP256K1, authority_private)
    expected = Expectations(authority, requires_statement=not accepts_no_statement)
    try:
        if await dialogue.exchange(certificate()) is not None:
            raise AttestationError(
                "the element has a certificate already, and takes one in its life",
                hint="iose attest tells whether it is yours",
            )
        public = await dialogue.exchange(application_public_key())
        challenge = _new_challenge()
        await _prove(dialogue, public, challenge)
        if not accepts_no_statement:
            await _require_statement(dialogue, expected, public, challenge)
        await dialogue.exchange(set_certificate(make_certificate(authority_private, public)))
    except IoseError:
        await dialogue.close()
        raise
    return await attest(dialogue, expected)


def make_certificate(authority_private: bytes, public: bytes) -> bytes:
    """Return an authority's signature over an application key: r and s, 32 bytes each.

    Raises:
        CryptoError: The authority's key is not a scalar of secp256k1.
    """
    digest = _CRYPTO.hash(HashAlgorithm.SHA256, public[1:])
    numbers = decode_signature(_CRYPTO.ecdsa_sign(Curve.SECP256K1, authority_private, digest))
    return b"".join(number.to_bytes(CERTIFICATE_SIZE // 2, "big") for number in numbers)


async def _attest_session(
    dialogue: Dialogue, expected: Expectations, shown: str, *, asks: bool
) -> Attestation:
    challenge = _new_challenge()
    public = await dialogue.exchange(application_public_key())
    signature = await dialogue.exchange(certificate())
    if signature is None:
        raise AttestationError(
            "the element is not certified",
            hint="its provider does that: iose element certify",
        )
    try:
        verify_certificate(expected.authority, public, signature)
    except CryptoError:
        raise AttestationError(
            "the element was not certified by this authority",
            hint="check the authority's public key; " + _OTHER_END,
        ) from None
    proof, digest = await _prove(dialogue, public, challenge)
    signed = await _statement(dialogue, expected, public, challenge) if asks else None
    return Attestation(
        dialogue.access.uri.sen,
        shown,
        expected,
        public,
        signature,
        challenge,
        proof,
        digest,
        signed,
    )


async def _prove(dialogue: Dialogue, public: bytes, challenge: bytes) -> tuple[bytes, bytes]:
    proof = await dialogue.exchange(prove(challenge))
    secret = dialogue.handshake_secret
    if secret is None:
        raise SessionClosedError("the session is closed", command_sent=True)
    try:
        verify_proof(public, secret, challenge, proof)
    except CryptoError:
        raise AttestationError(
            "the proof is not of this session, or not by the key certified", hint=_OTHER_END
        ) from None
    return proof, proof_digest(secret, challenge)


async def _require_statement(
    dialogue: Dialogue, expected: Expectations, public: bytes, challenge: bytes
) -> None:
    shown = await dialogue.exchange(version())
    if not shown.startswith(STATING_VERSIONS):
        raise AttestationError(
            "the element does not state what it is, and its host may sign with its key: "
            "nothing was signed",
            hint="--without-statement certifies it all the same, with a key of the provider that "
            "never signs for hardened elements",
        )
    await _statement(dialogue, expected, public, challenge)


async def _statement(
    dialogue: Dialogue, expected: Expectations, public: bytes, challenge: bytes
) -> SignedStatement:
    exporter = dialogue.export(EXPORTER_LABEL, EXPORTER_SIZE)
    try:
        count, first = await dialogue.exchange(begin_statement(challenge))
    except SessionClosedError as end:
        if not end.command_sent:
            raise
        raise AttestationError(
            "the session ended, and there was no statement of the element on itself",
            hint=_STATEMENT_HINT,
        ) from None
    pieces = [first]
    for index in range(1, count):
        pieces.append(await dialogue.exchange(statement_piece(index)))
    try:
        signed = SignedStatement.decode(b"".join(pieces))
        verify_statement(public, exporter, challenge, signed)
    except (CryptoError, DecodeError) as fault:
        raise AttestationError(
            f"the element's statement does not hold: {fault}", hint=_OTHER_END
        ) from None
    check_statement(signed, dialogue.access.uri.sen, expected.package_hash)
    return signed


def check_statement(signed: SignedStatement, sen: str, package_hash: bytes | None) -> None:
    """Check what a statement, already verified, says against what is expected.

    Raises:
        AttestationError: It is another element's, or another package's.
        DecodeError: What was signed is no statement.
    """
    stated = signed.statement()
    # as bytes: names are ASCII, and letters beyond it must not become equal to one of them
    if stated.sen.lower() != sen.encode(errors="backslashreplace").lower():
        raise AttestationError("the element that answers says it has another name", hint=_OTHER_END)
    if package_hash is not None and stated.package_hash != package_hash:
        raise AttestationError(
            f"the applet came in another package: {stated.package_hash.hex()}",
            hint="ask its provider which package it should be; do not use it before",
        )


def _new_challenge() -> bytes:
    return SystemRng().random_bytes(CHALLENGE_SIZE)
