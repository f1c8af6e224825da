# SPDX-License-Identifier: Apache-2.0
"""The keystore's commands in words: what each means, and the next step when it is refused.

Typed commands take their hints from here, and the shell its help; the syntax is the keystore's
own (KS1.3 and the additions of KS2.18), one line per command.
"""

from dataclasses import dataclass
from typing import Final

_CLOSED: Final = "an element closes the session when it does not know the command: ask its version"
_EMPTY_KEY: Final = "the key slot may be empty: generate a key first, or read another slot"
_FULL_KEY: Final = "the key slot may be taken: clear it first, which destroys its key"
_EMPTY_SEED: Final = "there may be no seed: set or generate one first"


@dataclass(frozen=True, slots=True)
class CommandSyntax:
    """One command for people.

    Attributes:
        form: How it is written; <..> stand for what the caller gives, as in ``LEGEND``.
        meaning: What it does.
        if_refused: The next step after ERROR.
        if_closed: The next step when the element closes the session instead of answering.
        is_secret: Whether the line itself holds a key.
    """

    form: str
    meaning: str
    if_refused: str
    if_closed: str = _CLOSED
    is_secret: bool = False


_INDEX: Final = "check the index: keys 00 to 03, records 00 to 1F"
_HEX: Final = "check that the payload is an even number of hexadecimal digits, at most as shown"
_ROOT: Final = "the guest identity may not do this, and not every element knows it"

SYNTAX: Final = {
    "?00": CommandSyntax("?00", "version of the application", _HEX),
    "?01": CommandSyntax("?01<text>", "echo a text", _HEX),
    "?02": CommandSyntax("?02", "end the session", _HEX, "the session ended, as asked"),
    "?0A": CommandSyntax("?0A", "public key of the application", _HEX),
    "?0B": CommandSyntax("?0B", "certificate of the application, zeros when unset", _HEX),
    "?0C": CommandSyntax(
        "?0C<2 to 64 digits>", "prove possession: sign session secret and challenge", _HEX
    ),
    "?0D": CommandSyntax("?0D", "handshake secret of this session", _ROOT),
    "?0E": CommandSyntax(
        "?0E<128 digits>",
        "store the certificate, once",
        "a certificate is written once: this element has its own",
        "the certificate must be 64 bytes",
    ),
    "?0F": CommandSyntax(
        "?0F<64 digits or 2>",
        "a signed statement on itself for a challenge, or a piece of it",
        "the element must be personalised, and asked with a challenge of 32 bytes first",
        "only hardened elements with the commands of iose make statements",
    ),
    "?05": CommandSyntax("?05<text>", "set the main PSK identity", _ROOT),
    "?06": CommandSyntax("?06<text>", "set the guest PSK identity", _ROOT),
    "?A0": CommandSyntax("?A0<64 digits>", "set the guest PSK", _ROOT, is_secret=True),
    "?A1": CommandSyntax("?A1", "read the guest PSK", _ROOT),
    "?A2": CommandSyntax("?A2<64 digits>", "set the identity-module PSK", _ROOT, is_secret=True),
    "?A5": CommandSyntax("?A5<2 digits>", "set flags: 01 guest identity, 80 check the name", _ROOT),
    "?AA": CommandSyntax(
        "?AA<old, 64 digits><new, 64 digits>",
        "change the PSK of the next sessions",
        "after 10 wrong attempts an administrator must unlock the change",
        "the old PSK was wrong, or this element does not allow a change",
        is_secret=True,
    ),
    "?D0": CommandSyntax("?D0<64 digits>", "binder with the identity-module PSK", _ROOT),
    "?D1": CommandSyntax("?D1<64 digits>", "derive with the identity-module PSK", _ROOT),
    "?D2": CommandSyntax("?D2<64 digits>", "the same after a push of the button", _ROOT),
    "?FF": CommandSyntax("?FF<2 to 256 digits>", "echo bytes", _HEX),
    "c": CommandSyntax("c<key>", "clear a key on secp256k1", _INDEX),
    "C": CommandSyntax("C<key>", "clear a key on P-256", _INDEX),
    "g": CommandSyntax("g<key>", "generate a key on secp256k1", _FULL_KEY),
    "G": CommandSyntax("G<key>", "generate a key on P-256", _FULL_KEY),
    "p": CommandSyntax("p<key>", "read the public key", _EMPTY_KEY),
    "r": CommandSyntax(
        "r<key>", "read the private key", "there is none, or it may not leave the element"
    ),
    "n": CommandSyntax("n<key>", "seal an empty slot: what is put there never leaves", _FULL_KEY),
    "N": CommandSyntax("N<key>", "tell whether a slot is sealed: 01 or 00", _INDEX),
    "P": CommandSyntax("P<key><130 digits>", "set the public key", _FULL_KEY),
    "X": CommandSyntax("X<key><2 to 64 digits>", "set the private key", _FULL_KEY, is_secret=True),
    "R": CommandSyntax("R<key><2 to 64 digits>", "the same as X", _FULL_KEY, is_secret=True),
    "s": CommandSyntax("s<key><2 to 64 digits>", "sign a digest, ECDSA", _EMPTY_KEY),
    "t": CommandSyntax(
        "t<key>[<2 to 128 digits>]",
        "set the seed; generate it without payload",
        _HEX,
        is_secret=True,
    ),
    "T": CommandSyntax("T<key>[<2 to 128 digits>]", "the same as t", _HEX, is_secret=True),
    "v": CommandSyntax("v<key>", "read the seed", "there is none, or it may not leave"),
    "b": CommandSyntax(
        "b<key><8 digits a level>", "derive the key from its seed, BIP32", _EMPTY_SEED
    ),
    "k": CommandSyntax("k<key><8 digits a level>", "the same as b", _EMPTY_SEED),
    "Z": CommandSyntax("Z<record><text>", "write a record, up to 64 bytes", _INDEX),
    "I": CommandSyntax("I<record>", "read a record; OK when it is empty", _INDEX),
    "h": CommandSyntax("h<key><digits>", "HMAC-SHA256 with the seed as key", _EMPTY_SEED),
    "H": CommandSyntax("H<key><digits>", "HMAC-SHA512 with the seed as key", _EMPTY_SEED),
    "A": CommandSyntax(
        "A<key><32 digits a block>", "AES-128 encrypt, the seed as key", _EMPTY_SEED
    ),
    "a": CommandSyntax(
        "a<key><32 digits a block>", "AES-128 decrypt, the seed as key", _EMPTY_SEED
    ),
}
UNKNOWN: Final = CommandSyntax(
    "",
    "a command iose does not know",
    "help in iose shell lists them; in a URI, one that begins with ? is written /??00",
)
LEGEND: Final = "<key> is 00 to 03, <record> 00 to 1F, digits are hexadecimal, <text> is as it is"


def syntax_of(line: bytes) -> CommandSyntax:
    """Return the words for a command line; ``UNKNOWN`` when there are none."""
    text = line[:3].decode("latin-1")
    return SYNTAX.get(text.upper() if text.startswith("?") else text[:1], UNKNOWN)


def redacted(line: bytes) -> bytes:
    """Return a command line without the key in it."""
    return line[:3] + b"***" if syntax_of(line).is_secret and len(line) > len(b"t00") else line


def shown(line: bytes) -> str:
    """Return a command line as it may be printed."""
    return redacted(line).decode(errors="backslashreplace")
