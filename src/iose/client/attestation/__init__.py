# SPDX-License-Identifier: Apache-2.0
"""Attestation: is this the element, does its provider still hold its key, and what does it run?"""

from iose.client.attestation.checks import verify_certificate, verify_proof, verify_statement
from iose.client.attestation.evidence import Evidence
from iose.client.attestation.procedure import attest, certify, take_over
from iose.client.attestation.result import Attestation, Expectations

__all__ = [
    "Attestation",
    "Evidence",
    "Expectations",
    "attest",
    "certify",
    "take_over",
    "verify_certificate",
    "verify_proof",
    "verify_statement",
]
