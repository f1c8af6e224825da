# SPDX-License-Identifier: Apache-2.0
"""What an element must hold after each command: the judge of a power cut, with no code of ours.

A ``Change`` says what a command makes of what its owner can read. Where the element draws a random
number, the change is a rule rather than a value: a pair must fit together, a seed have its size.
"""

import hashlib
import hmac
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # SEC 2 §2.4.1
HARDENED = 0x80000000
READINGS = (b"p00", b"r00", b"v00", b"I00")
NONE = b"ERROR"
EMPTY_RECORD = b"OK"


@dataclass(frozen=True)
class View:
    """What an owner can read of slot 00, record 00, and the key that opened the session."""

    psk: bytes
    public: bytes = NONE
    private: bytes = NONE
    seed: bytes = NONE
    record: bytes = EMPTY_RECORD


@dataclass(frozen=True)
class Change:
    """One command, and what is right once it has been obeyed."""

    line: bytes
    is_right: Callable[[View], bool]
    result: View | None = None
    psk: bytes | None = None


def known(line: bytes, result: View) -> Change:
    """Return a change with one right outcome."""
    return Change(line, lambda view: view == result, result)


def public_of(private: bytes) -> bytes:
    """Return the public half of a pair on secp256k1, both as the keystore writes them."""
    key = ec.derive_private_key(int(private, 16), ec.SECP256K1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return point.hex().upper().encode()


def next_change(view: View, rng: random.Random) -> Change:
    """Return a change that an element in this state obeys."""
    kinds = [_record, _record, _psk, _seed, _drawn_seed, _clear]
    kinds += [_pair, _drawn_pair, _drawn_pair] if view.public == NONE else [_clear]
    if view.seed != NONE:
        kinds.append(_derived)
    return rng.choice(kinds)(view, rng)


def _record(view: View, rng: random.Random) -> Change:
    text = rng.randbytes(rng.randint(1, 32)).hex().encode()
    return known(b"Z00" + text, replace(view, record=text))


def _psk(view: View, rng: random.Random) -> Change:
    new = rng.randbytes(32)
    line = b"?AA" + (view.psk + new).hex().encode()
    return replace(known(line, replace(view, psk=new)), psk=new)


def _clear(view: View, _rng: random.Random) -> Change:
    return known(b"c00", replace(view, public=NONE, private=NONE, seed=NONE))


def _pair(view: View, rng: random.Random) -> Change:
    private = rng.randbytes(32).hex().upper().encode()
    return known(b"X00" + private, replace(view, private=private, public=public_of(private)))


def _drawn_pair(view: View, _rng: random.Random) -> Change:
    def is_right(after: View) -> bool:
        fits = after.private != NONE and after.public == public_of(after.private)
        return fits and replace(after, public=view.public, private=view.private) == view

    return Change(b"g00", is_right)


def _seed(view: View, rng: random.Random) -> Change:
    seed = rng.randbytes(rng.randint(16, 64)).hex().upper().encode()
    return known(b"t00" + seed, replace(view, seed=seed))


def _drawn_seed(view: View, _rng: random.Random) -> Change:
    def is_right(after: View) -> bool:
        is_new = len(after.seed) == 64 and after.seed != view.seed
        return is_new and replace(after, seed=view.seed) == view

    return Change(b"t00", is_right)


def _derived(view: View, rng: random.Random) -> Change:
    path = [HARDENED + rng.randrange(HARDENED) for _ in range(rng.randint(1, 4))]
    private = _derive(bytes.fromhex(view.seed.decode()), path).hex().upper().encode()
    line = b"b00" + b"".join(b"%08x" % level for level in path)
    return known(line, replace(view, private=private, public=public_of(private)))


def _derive(seed: bytes, path: list[int]) -> bytes:
    """Return a private key by BIP 32, hardened levels only."""
    whole = hmac.digest(b"Bitcoin seed", seed, hashlib.sha512)
    key, chain = whole[:32], whole[32:]
    for level in path:
        whole = hmac.digest(chain, b"\0" + key + level.to_bytes(4, "big"), hashlib.sha512)
        number = (int.from_bytes(whole[:32], "big") + int.from_bytes(key, "big")) % ORDER
        key, chain = number.to_bytes(32, "big"), whole[32:]
    return key
