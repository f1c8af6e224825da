# SPDX-License-Identifier: Apache-2.0
"""What an attestation is asked for, what it found, and both in words: what holds, what is open.

An ``Attestation`` exists only when everything asked for was verified. It holds no secret.
"""

from dataclasses import dataclass
from typing import Final

from iose.client.codec import read_text
from iose.protocols.attestation import SignedStatement, Statement

# the provider key of the published demonstrations: anybody can sign with it
DEMO_AUTHORITY: Final = bytes.fromhex(
    "046099836D971593AAA2C1C32B6DB9EF9521041795E21CF1E7511DF3BD358F97DF"
    "358B33A875E359CBE236163D6DBAEDFEC6C9393522C7EBC25A7CC85E1F0A7D67"
)


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the element must show.

    Attributes:
        authority: Public key of whoever certifies elements, 65 bytes.
        package_hash: SHA-256 that the load file of the applet must have; None takes any.
        requires_statement: Whether an element that makes no statement fails; a package hash
            takes one anyway.
    """

    authority: bytes
    package_hash: bytes | None = None
    requires_statement: bool = False

    @property
    def needs_statement(self) -> bool:
        """Whether certificate and proof alone are not enough."""
        return self.requires_statement or self.package_hash is not None


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an element showed, verified.

    Attributes:
        sen: The name it was asked for by.
        version: What its application calls itself; nobody signs that.
        expected: What it had to show.
        public_key: Of its application, 65 bytes.
        certificate: r and s of the authority's signature, 64 bytes.
        challenge: What it was asked to sign, 32 bytes.
        proof: DER signature over handshake secret and challenge.
        proof_digest: SHA-256 of both, which tells nothing of the secret.
        signed: What it says of itself; None when it makes no statements.
    """

    sen: str
    version: str
    expected: Expectations
    public_key: bytes
    certificate: bytes
    challenge: bytes
    proof: bytes
    proof_digest: bytes
    signed: SignedStatement | None = None

    @property
    def statement(self) -> Statement | None:
        """What the element says of itself, or None."""
        return None if self.signed is None else self.signed.statement()

    @property
    def is_copy(self) -> bool:
        """Whether the element says that another may hold its keys."""
        stated = self.statement
        return stated is not None and stated.is_copy

    def verified(self) -> tuple[str, ...]:
        """Return what holds, one sentence each."""
        found = [
            "the authority certified the application key",
            "whoever holds that key is at the other end of this very session: it signed our "
            "challenge together with the session's secret",
        ]
        if (stated := self.statement) is not None:
            found.append(
                f"in a statement signed for this session it says that it is {read_text(stated.sen)}"
                + (f", SEID {read_text(stated.seid)}" if stated.seid else "")
            )
            if self.expected.package_hash is not None:
                found.append("the statement names the package you expect its applet to come from")
        return tuple(found)

    def not_verified(self) -> tuple[str, ...]:
        """Return what remains to be trusted, one sentence each."""
        open_points = [*self._open_of_statement()]
        if self.expected.authority == DEMO_AUTHORITY:
            open_points.append("who certified it: the private key of this authority is published")
        open_points.append(
            "that a chip holds the keys: a software element says the same, and who runs its "
            "machine can read them"
        )
        return tuple(open_points)

    def _open_of_statement(self) -> list[str]:
        stated = self.statement
        if stated is None:
            return [
                "which certified element this is, what code it runs, and whether there are copies: "
                "it makes no statement, so its host may also have made the proof"
            ]
        open_points = [
            "that nobody else can sign with its key: true of hardened elements, so trust this only "
            "if the authority certifies no others"
        ]
        if self.expected.package_hash is None:
            open_points.append(
                "the code: compare the package hash with the one that your provider published"
            )
        if not stated.seid:
            open_points.append("its SEID: it was given none when it was personalised")
        if stated.is_copy:
            open_points.append(
                "that it is the only one: it is marked as a copy, another may hold the same keys"
            )
        return open_points
