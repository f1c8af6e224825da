# SPDX-License-Identifier: Apache-2.0
"""Parameters of the commands APDU and SEN, from words to values (racs.md §6, §7)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from iose.wire.errors import DecodeError

__all__ = ["ApduParameters", "SenParameters", "decode_apdu_parameters", "decode_sen_parameters"]

APDU_LIMIT: Final = 65_544  # racs.md §7.2: an extended command with data and Le
APDU_MINIMUM: Final = 4  # CLA INS P1 P2
SEPARATORS: Final = str.maketrans("", "", ":-_")
HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
FETCH_DEFAULT: Final = bytes.fromhex("00C00000")
OPTION_SIZES: Final = {"CONTINUE": 2, "MORE": 1, "FETCH": 4}  # racs.md §7.2
SEN_LIMIT: Final = 15  # racs.md §6
AID_DIGITS_LIMIT: Final = 32
NO_SERVICE: Final = "null"
DISABLING_AID_DIGITS: Final = 2


@dataclass(frozen=True, slots=True)
class ApduParameters:
    """What an APDU command line asks for.

    Attributes:
        command: The raw command.
        expected: Status word without which the request stops; None takes any.
        more: SW1 after which the rest is fetched; None fetches nothing.
        fetch: CLA INS P1 P2 of that fetching.
    """

    command: bytes
    expected: int | None = None
    more: int | None = None
    fetch: bytes = FETCH_DEFAULT

    def with_command(self, command: bytes) -> "ApduParameters":
        """Return the same for another command."""
        return replace(self, command=command)


@dataclass(frozen=True, slots=True)
class SenParameters:
    """What a SEN command line asks for.

    Attributes:
        sen: The new name, ``null`` for no service at all; None for the element's own.
        aid: The applet's AID in upper-case hex; "" for the default-selected one.
    """

    sen: str | None
    aid: str = ""


def decode_apdu_parameters(words: Sequence[str], *, is_reference: bool = False) -> ApduParameters:
    """Return the meaning of the words after the SEID (racs.md §7).

    Args:
        words: The APDU in hex, then options.
        is_reference: Skip what cannot be read, as the published server does.

    Raises:
        DecodeError: No APDU, no hex, a size outside 4 to 65 544 bytes, or a malformed option.
    """
    if not words:
        raise DecodeError("an APDU is missing")
    command = _decode_hex(words[0], is_reference=is_reference)
    if not APDU_MINIMUM <= len(command) <= APDU_LIMIT:
        raise DecodeError(f"an APDU has {APDU_MINIMUM} to {APDU_LIMIT} bytes, found {len(command)}")
    if len(words) == 1:
        return ApduParameters(command)
    return _with_options(command, words[1:], is_reference=is_reference)


def _with_options(command: bytes, words: Sequence[str], *, is_reference: bool) -> ApduParameters:
    values: dict[str, bytes] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals and not is_reference:
            raise DecodeError("a word that is no option")
        size = OPTION_SIZES.get(name)
        if size is None or not equals:
            continue
        if len(text) == 2 * size and HEX_DIGITS.issuperset(text):
            values[name] = bytes.fromhex(text)
        elif not is_reference:
            raise DecodeError(f"{name} takes {2 * size} hex digits")
    expected, more = values.get("CONTINUE"), values.get("MORE")
    return ApduParameters(
        command,
        None if expected is None else int.from_bytes(expected, "big"),
        None if more is None else more[0],
        values.get("FETCH", FETCH_DEFAULT),
    )


def decode_sen_parameters(words: Sequence[str]) -> SenParameters:
    """Return the meaning of the words after the SEID: ``[name [aid]]`` (racs.md §6).

    Raises:
        DecodeError: The name has over 15 characters, or the AID is no hex or too long.
    """
    if not words:
        return SenParameters(None)
    sen = words[0]
    aid = words[1].upper() if len(words) > 1 else ""
    if len(sen) > SEN_LIMIT:
        raise DecodeError(f"a name has up to {SEN_LIMIT} characters, found {len(sen)}")
    if len(aid) > AID_DIGITS_LIMIT or len(aid) % 2 or not HEX_DIGITS.issuperset(aid):
        raise DecodeError(f"an AID has up to {AID_DIGITS_LIMIT} hex digits")
    if len(aid) == DISABLING_AID_DIGITS:
        return SenParameters(NO_SERVICE)
    return SenParameters(sen, aid)


def _decode_hex(text: str, *, is_reference: bool) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    if is_reference:
        digits = "".join(letter for letter in text if letter in HEX_DIGITS)
        return bytes.fromhex(digits[: len(digits) & ~1])
    try:
        return bytes.fromhex(text.translate(SEPARATORS))
    except ValueError:
        raise DecodeError("an APDU is written in hex") from None
