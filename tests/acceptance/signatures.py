# SPDX-License-Identifier: Apache-2.0
"""ECDSA signatures, verified by the openssl program alone: the DER around the point is ours."""

import subprocess
from pathlib import Path

from tests.support.peers import require_peer

# id-ecPublicKey (RFC 5480 §2.1.1), then the curve: secp256k1 (SEC 2) or prime256v1
_EC_PUBLIC_KEY = bytes.fromhex("06072A8648CE3D0201")
SECP256K1 = bytes.fromhex("06052B8104000A")
P256 = bytes.fromhex("06082A8648CE3D030107")


def public_key_info(point: bytes, curve: bytes) -> bytes:
    """Return a SubjectPublicKeyInfo (RFC 5480 §2)."""
    return _der(0x30, _der(0x30, _EC_PUBLIC_KEY + curve) + _der(0x03, b"\0" + point))


def is_verified(
    folder: Path, point: bytes, digest: bytes, signature: bytes, curve: bytes = SECP256K1
) -> bool:
    """Return what ``openssl pkeyutl -verify`` says of a signature over a digest."""
    for name, data in {
        "key.der": public_key_info(point, curve),
        "digest": digest,
        "signature": signature,
    }.items():
        (folder / name).write_bytes(data)
    command = [require_peer("openssl"), "pkeyutl", "-verify", "-pubin", "-keyform", "DER"]
    command += ["-inkey", "key.der", "-in", "digest", "-sigfile", "signature"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if b"Signature Verified Successfully" in done.stdout:
        assert done.returncode == 0
        return True
    assert b"Signature Verification Failure" in done.stdout, done.stderr
    return False


def _der(tag: int, content: bytes) -> bytes:
    assert len(content) < 0x80
    return bytes((tag, len(content))) + content
