# SPDX-License-Identifier: Apache-2.0
"""Have an element sign with a key it already has, and check the signature with an outside tool.

python examples/verify_signature.py 'keyS://key1.com@127.0.0.1:8888/' 3
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import iose

# SubjectPublicKeyInfo of a point on secp256k1, up to the point (RFC 5480 §2, SEC 2 §2.4.1)
SPKI_HEAD = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200")


def main(uri: str, key: int) -> None:
    """Leave the last word to OpenSSL."""
    message = b"a message"
    with iose.connect(uri) as element:
        public = element.public_key(key)
        signature = element.sign(key, hashlib.sha256(message).digest())
    with tempfile.TemporaryDirectory() as folder:
        files = {"key.der": SPKI_HEAD + public, "signature": signature, "message": message}
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        command = "openssl dgst -sha256 -verify key.der -keyform DER -signature signature message"
        subprocess.run(command.split(), cwd=folder, check=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
