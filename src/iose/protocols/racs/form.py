# SPDX-License-Identifier: Apache-2.0
"""RACS requests as fields of a form, and ``RACS://`` URIs that carry them (racs.md §13).

Each command is a field, its parameters the value. Order matters and names repeat, so fields are
a list everywhere.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from iose.wire.errors import DecodeError, LocalProtocolError

__all__ = [
    "RacsUri",
    "check_request_lines",
    "decode_form",
    "decode_racs_uri",
    "decode_text",
    "encode_form",
    "encode_racs_uri",
]

DEFAULT_PORT: Final = 7777
PORT_LIMIT: Final = 65_535
SCHEME: Final = "racs"
PLAIN: Final = "=-_.:"  # left as they are in values
COMMENT: Final = "//"
LINES_LIMIT: Final = 10_000  # of one request; each costs time before anybody is asked anything
_ESCAPES: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_SEID: Final = re.compile(r"[!-~]{1,63}")


@dataclass(frozen=True, slots=True)
class RacsUri:
    """A URI of a RACS server: of one element, or with a request.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: 7777 when none is written.
        seid: The element of ``racs://host:port/SEID``; "" with a request.
        lines: The request's lines, BEGIN and END included; empty with an element.
    """

    host: str
    port: int = DEFAULT_PORT
    seid: str = ""
    lines: tuple[str, ...] = ()


def decode_form(text: str) -> tuple[str, ...]:
    """Return the lines of a request written as form fields (racs.md §13).

    Raises:
        DecodeError: An escape is broken, something is not printable ASCII, or there are too many.
    """
    if not text:
        return ()
    _check_count(text.count("&"))
    lines = []
    offset = 0
    for field in text.split("&"):
        name, _, value = field.partition("=")
        words = (_unescape(name, offset), _unescape(value, offset))
        lines.append(" ".join(word for word in words if word))
        offset += len(field) + 1
    return tuple(lines)


def encode_form(lines: Iterable[str]) -> str:
    """Return lines of a request as form fields."""
    fields = []
    for line in lines:
        name, _, value = line.strip(" ").partition(" ")
        fields.append(f"{quote(name, safe='-')}={quote(value.strip(' '), safe=PLAIN)}")
    return "&".join(fields)


def decode_text(data: bytes) -> tuple[str, ...]:
    """Return the lines of a request written as lines, without comments and empty ones.

    Raises:
        DecodeError: Something is not printable ASCII, or there are too many.
    """
    _check_count(data.count(b"\n"))
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DecodeError("a request is printable ASCII", offset=error.start) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for line in lines:
        if not line.isprintable():
            raise DecodeError("a request is printable ASCII")
    return tuple(line for line in lines if line.strip(" ") and not line.startswith(COMMENT))


def check_request_lines(lines: Sequence[str]) -> None:
    """Check that there is one whole request and nothing else, before anything is done.

    Raises:
        DecodeError: It does not begin with BEGIN and end with END, or there is another of them.
    """
    words = [line.lstrip(" ").split(" ", 1)[0] for line in lines]  # as the server reads them
    if not words or words[0] != "BEGIN":
        raise DecodeError("expected BEGIN first")
    if words[-1] != "END":
        raise DecodeError("expected END last")
    if any(word in {"BEGIN", "END"} for word in words[1:-1]):
        raise DecodeError("expected one request")


def decode_racs_uri(text: str) -> RacsUri:
    """Return what a URI names: an element, or a server and a request (racs.md §13).

    Raises:
        DecodeError: It is no RACS URI, has neither element nor request, or more than those.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() != SCHEME:
        raise DecodeError(f"expected {SCHEME}://host:port/", offset=0)
    authority, _, path = rest.partition("/")
    offset = len(scheme) + len(separator)
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise DecodeError("expected host:port", offset=offset)
    host = found[1].strip("[]")
    port = int(found[2] or DEFAULT_PORT)
    if not 0 < port <= PORT_LIMIT:
        raise DecodeError(f"expected a port up to {PORT_LIMIT}, found {port}", offset=offset)
    offset += len(authority) + 1
    if path.startswith("?"):
        lines = decode_form(path[1:])
        check_request_lines(lines)
        return RacsUri(host, port, lines=lines)
    seid = _unescape(path, offset)
    if "?" in path or "/" in path or not _SEID.fullmatch(seid):
        raise DecodeError("expected a SEID, or ? and a request", offset=offset)
    return RacsUri(host, port, seid)


def encode_racs_uri(uri: RacsUri) -> str:
    """Return the URI.

    Raises:
        LocalProtocolError: It has both element and request, or neither.
    """
    if bool(uri.seid) == bool(uri.lines):
        raise LocalProtocolError("a RACS URI has an element or a request")
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    what = quote(uri.seid, safe=PLAIN) if uri.seid else f"?{encode_form(uri.lines)}"
    return f"{SCHEME}://{host}:{uri.port}/{what}"


def _check_count(separators: int) -> None:
    if separators >= LINES_LIMIT:
        raise DecodeError(f"a request has up to {LINES_LIMIT} lines")


def _unescape(text: str, offset: int) -> str:
    broken = _ESCAPES.search(text)
    if broken is not None:
        raise DecodeError("an escape is % and two hex digits", offset=offset + broken.start())
    data = unquote_to_bytes(text.replace("+", " "))
    if not data.isascii() or not (found := data.decode("ascii")).isprintable():
        raise DecodeError("a field is not printable ASCII", offset=offset)
    return found.strip(" ")
