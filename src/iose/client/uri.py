# SPDX-License-Identifier: Apache-2.0
"""The URI of an element: ``schemeS://sen[:psk]@host[:port]/[;id=identity][?command[&command]]``.

Pure: it reads no file and opens no connection. Its key, and keys in its commands, are redacted
wherever the value is printed; ``ElementUri.reveal`` alone shows them. Source:
draft-urien-coinrg-iose, whose abstract gives the form; the ``;id=`` parameter is ours.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from iose.client.errors import ElementUriError
from iose.client.syntax import redacted

DEFAULT_PORT: Final = 443
DEFAULT_IDENTITY: Final = "Client_identity"
PSK_SIZE: Final = 32
MAX_SEN_SIZE: Final = 15  # what the historical bytes of an ATR can hold (ISO/IEC 7816-3 §8.2.4)
MAX_IDENTITY_SIZE: Final = 128  # RFC 4279 §5.3 asks implementations for no less
MAX_PORT: Final = 65_535
MAX_URI_SIZE: Final = 16_384  # one command never exceeds a record (RFC 8446 §5.1)
REDACTED: Final = "***"

_SCHEME: Final = re.compile(r"[A-Za-z]+[Ss]")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?", re.ASCII)
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~-]+)?")  # RFC 6874 §2
_PSK: Final = re.compile(r"[0-9A-Fa-f]{64}")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OLD_QUERY: Final = "query="
_QUERY_SAFE: Final = "/?:@!$'()*,;="  # RFC 3986 §3.4, less what separates commands
_IDENTITY_SAFE: Final = "!$'()*,:@"


@dataclass(frozen=True, slots=True)
class ElementAddress:
    """Where an element answers: spelling does not matter, since names are compared without case.

    Attributes:
        sen: The element's name, in lower case.
        host: Host name or IP address, in lower case, without brackets.
        port: TCP port.
    """

    sen: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{quote_from_bytes(self.sen.encode(), safe='')}@{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class ElementUri:
    """An element and, if written, the key and the commands for it (draft-urien-coinrg-iose).

    Attributes:
        scheme: Syntax of the element's application, lower case but for the final ``S``.
        sen: Name of the element, 1 to 15 printable ASCII characters; sent as SNI.
        host: Host name or IP address of the node, without brackets.
        port: TCP port, 1 to 65 535.
        psk: The 32-byte key, or None; never printed.
        identity: PSK identity, or None for the element's usual one.
        commands: Command lines without their line end, in order.
    """

    scheme: str
    sen: str
    host: str
    port: int = DEFAULT_PORT
    psk: bytes | None = None
    identity: str | None = None
    commands: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not _SCHEME.fullmatch(self.scheme):
            raise ElementUriError("expected a scheme of letters that ends in S, as in keyS")
        object.__setattr__(self, "scheme", self.scheme[:-1].lower() + "S")
        _check_sen(self.sen)
        _check_host(self.host)
        if not 1 <= self.port <= MAX_PORT:
            raise ElementUriError(f"expected a port from 1 to {MAX_PORT}, found {self.port}")
        if self.psk is not None and len(self.psk) != PSK_SIZE:
            raise ElementUriError(f"expected a PSK of {PSK_SIZE} bytes, found {len(self.psk)}")
        if self.identity is not None:
            _check_identity(self.identity)
        for command in self.commands:
            _check_command(command)

    @classmethod
    def decode(cls, text: str) -> "ElementUri":
        """Return the parts of a URI.

        Raises:
            ElementUriError: It does not have the form of an element's URI.
        """
        if len(text) > MAX_URI_SIZE:
            raise ElementUriError(f"expected at most {MAX_URI_SIZE} characters, found {len(text)}")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ElementUriError(
                "found blanks, or characters outside ASCII", hint="percent-encode them"
            )
        if "#" in text:
            raise ElementUriError(
                "found #, which starts a fragment", hint="write # in a command as %23"
            )
        scheme, mark, rest = text.partition("://")
        if not mark:
            raise ElementUriError("found no ://")
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        sen, psk, host, port = _decode_authority(authority)
        return cls(
            scheme=scheme,
            sen=sen,
            host=host,
            port=port,
            psk=psk,
            identity=_decode_path(path) if slash else None,
            commands=_decode_query(query),
        )

    @property
    def address(self) -> ElementAddress:
        """Where the element answers, in the one spelling that credentials are kept under."""
        return ElementAddress(self.sen.lower(), self.host.lower(), self.port)

    def reveal(self) -> str:
        """Return the URI with its key and those in its commands; ``str`` redacts them."""
        return self._encode("" if self.psk is None else ":" + self.psk.hex(), self.commands)

    def __str__(self) -> str:
        psk = "" if self.psk is None else ":" + REDACTED
        return self._encode(psk, map(redacted, self.commands))

    def __repr__(self) -> str:
        return f"ElementUri.decode({str(self)!r})"

    def _encode(self, psk: str, lines: Iterable[bytes]) -> str:
        sen = quote_from_bytes(self.sen.encode(), safe="")
        port = "" if self.port == DEFAULT_PORT else f":{self.port}"
        text = f"{self.scheme}://{sen}{psk}@{_bracketed(self.host)}{port}/"
        if self.identity is not None:
            text += ";id=" + quote_from_bytes(self.identity.encode(), safe=_IDENTITY_SAFE)
        if self.commands:
            commands = (quote_from_bytes(line, safe=_QUERY_SAFE) for line in lines)
            text += "?" + "&".join(
                line.replace("=", "%3D") if line.startswith(_OLD_QUERY) else line
                for line in commands
            )
        return text


def decode_psk(text: str) -> bytes:
    """Return a PSK written as 64 hexadecimal digits; blanks around them are dropped.

    Raises:
        ElementUriError: They are not 64 hexadecimal digits. The text is never repeated.
    """
    digits = text.strip()
    if digits == REDACTED:
        raise ElementUriError(
            "the PSK of this URI was redacted", hint="leave it out, or write its 64 digits"
        )
    if not _PSK.fullmatch(digits):
        found = "others" if len(digits) == 2 * PSK_SIZE else str(len(digits))
        raise ElementUriError(
            f"expected a PSK of {2 * PSK_SIZE} hexadecimal digits, found {found}",
            hint="a PSK is 32 bytes, written in hexadecimal",
        )
    return bytes.fromhex(digits)


def _decode_authority(authority: str) -> tuple[str, bytes | None, str, int]:
    user, mark, place = authority.rpartition("@")
    if not mark:
        raise ElementUriError("expected name@host, found no @")
    if "@" in user:
        raise ElementUriError("found two @", hint="write @ in a name as %40")
    sen, colon, psk = user.partition(":")
    host, port = _decode_place(place)
    return _unquote_text(sen, "name"), decode_psk(psk) if colon else None, host, port


def _decode_place(place: str) -> tuple[str, int]:
    if place.startswith("["):
        host, mark, port = place[1:].partition("]")
        if not mark or (port and not port.startswith(":")):
            raise ElementUriError("expected [IPv6 address] or [IPv6 address]:port")
        host, port = _unquote_text(host, "host"), port[1:]
        if ":" not in host:
            raise ElementUriError("expected an IPv6 address between the brackets")
        return host, _decode_port(port)
    host, _, port = place.partition(":")
    if ":" in port:
        raise ElementUriError(
            "found several : in the host", hint="write an IPv6 address in brackets"
        )
    return host, _decode_port(port)


def _decode_port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or len(text) > len(str(MAX_PORT)):
        raise ElementUriError(f"expected a port from 1 to {MAX_PORT}")
    return int(text)


def _decode_path(path: str) -> str | None:
    if not path:
        return None
    if not path.startswith(";id="):
        raise ElementUriError("found a path", hint="write commands after /?")
    return _unquote_text(path.removeprefix(";id="), "identity")


def _decode_query(query: str) -> tuple[bytes, ...]:
    if not query:
        return ()
    lines = (part.removeprefix(_OLD_QUERY) for part in query.split("&"))
    return tuple(_unquote(line, "command") for line in lines)


def _unquote(text: str, what: str) -> bytes:
    if _BAD_PERCENT.search(text):
        raise ElementUriError(
            f"found % without two hexadecimal digits in the {what}", hint="write % as %25"
        )
    return unquote_to_bytes(text)


def _unquote_text(text: str, what: str) -> str:
    try:
        return _unquote(text, what).decode()
    except UnicodeDecodeError:
        raise ElementUriError(f"the {what} is not UTF-8") from None


def _check_sen(sen: str) -> None:
    if not 1 <= len(sen) <= MAX_SEN_SIZE:
        raise ElementUriError(f"expected a name of 1 to {MAX_SEN_SIZE} bytes, found {len(sen)}")
    if not sen.isascii() or not sen.isprintable() or " " in sen:
        raise ElementUriError("expected a name of printable ASCII characters without blanks")


def _check_host(host: str) -> None:
    if ":" in host:
        try:
            if _IPV6.fullmatch(host):
                IPv6Address(host)
                return
        except AddressValueError:
            pass
        raise ElementUriError("the host is not an IPv6 address")
    if not _HOST.fullmatch(host):
        raise ElementUriError("expected a host name or an IP address after @")


def _check_identity(identity: str) -> None:
    size = len(identity.encode(errors="surrogatepass"))
    if not 1 <= size <= MAX_IDENTITY_SIZE or not identity.isprintable():
        raise ElementUriError(f"expected an identity of 1 to {MAX_IDENTITY_SIZE} printable bytes")


def _check_command(command: bytes) -> None:
    if not command:
        raise ElementUriError("found an empty command", hint="separate commands by one &")
    if b"\n" in command or b"\r" in command:
        raise ElementUriError("found a line end inside a command", hint="separate commands by &")


def _bracketed(host: str) -> str:
    return f"[{host.replace('%', '%25')}]" if ":" in host else host
