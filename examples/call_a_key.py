# SPDX-License-Identifier: Apache-2.0
"""Generate a key inside an element, sign with it, and check the signature out here.

python examples/call_a_key.py 'keyS://key1.com@127.0.0.1:8888/'
"""

import hashlib
import sys

import iose

KEY = 3


def main(uri: str) -> None:
    """Use a key of the element, which never leaves it."""
    digest = hashlib.sha256(b"a message").digest()
    with iose.connect(uri) as element:
        print("element:", element.version())
        element.clear_key(KEY)
        element.generate_key(KEY)
        public = element.public_key(KEY)
        signature = element.sign(KEY, digest, low_s=True)
    print("public key:", public.hex())
    print("signature:", signature.hex())
    iose.verify_signature(public, digest, signature)
    print("the signature verifies")


if __name__ == "__main__":
    main(sys.argv[1])
