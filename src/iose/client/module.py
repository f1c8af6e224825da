# SPDX-License-Identifier: Apache-2.0
"""Where the PSK of an element is, when we do not hold it: in an identity module (tls-im.md §3, §7).

A module is behind a reader of this machine or in an element of a RACS server, or it is the PSK that
another TLS-SE element keeps for its clients. It computes binder and handshake secret; we never see
what they are made of.
Pure: it opens nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from iose.client.errors import ElementUriError
from iose.client.module_place import (
    DEFAULT_AID,
    ReaderModule,
    check_pin,
    is_reader_uri,
)
from iose.client.uri import MAX_PORT, ElementUri
from iose.iso7816.aid import Aid
from iose.protocols.racs.form import DEFAULT_PORT
from iose.transport.addresses import format_address
from iose.wire.errors import DecodeError

RACS_SCHEME: Final = "racs"
MODULE_HINT: Final = (
    "a module's URI looks like racs://host:port/SEID?aid=010203040800, keyS://name@host:port"
    " or pcsc:READER"
)


class ModuleSession(Protocol):
    """One use of a module, for one handshake: ``open``, the two operations, ``close``."""

    async def open(self) -> None:
        """Make the module ready.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello, 32 bytes each.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret, 32 bytes each.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """

    async def close(self) -> None:
        """Let the module go; never raises, and harmless when closed already."""


@dataclass(frozen=True, slots=True)
class RacsModule:
    """A module in an element of a RACS server.

    Attributes:
        host: Name or address of the server, without brackets.
        port: Its port.
        seid: The element.
        pki: Folder with our certificate for the server: user.pem, user.key, ca.pem.
        aid: The module's instance; a TLS-SE applet serves too, where it is not locked.
        pin: 4 characters are the user's, 8 the administrator's; None: not known, or it was
            refused once, which is not tried again.
    """

    host: str
    port: int
    seid: str
    pki: Path
    aid: Aid = DEFAULT_AID
    pin: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ElementUriError: The PIN has not 4 or 8 bytes, or the SEID is no word.
        """
        if self.pin is not None:
            check_pin(self.pin)
        if not (
            self.seid.isascii() and self.seid.isprintable() and self.seid.split() == [self.seid]
        ):
            raise ElementUriError("the SEID of a module is one word of ASCII", hint=MODULE_HINT)
        if not self.host or not 1 <= self.port <= MAX_PORT:
            raise ElementUriError("the server of a module has no host or port", hint=MODULE_HINT)

    def __str__(self) -> str:
        """Return the URI, without the PIN."""
        return f"racs://{self.server}/{quote(self.seid, safe='')}?aid={self.aid}"

    @property
    def needs_pin(self) -> bool:
        """Whether a PIN goes with it, which is kept until it is refused."""
        return True

    @property
    def server(self) -> str:
        """``HOST:PORT``, an IPv6 address in brackets."""
        return format_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class HopModule:
    """Another TLS-SE element, with a session of its own, and the PSK it keeps for its clients.

    Attributes:
        uri: The element; its key is found as that of any other, and may be in a module too.
        is_confirmed: Ask for a push of the element's button at each handshake.
    """

    uri: ElementUri
    is_confirmed: bool = False

    def __str__(self) -> str:
        """Return the URI, without its key."""
        return str(self.uri)


Module = RacsModule | HopModule | ReaderModule


def decode_module(
    text: str, *, pki: Path, pin: bytes | None = None, is_confirmed: bool = False
) -> Module:
    """Return the module that a URI names.

    Args:
        text: ``racs://host[:port]/SEID[?aid=hex]``, the URI of a module behind a reader
            (``module_place``), or an element's URI for a hop.
        pki: Folder of our certificate, for a RACS server.
        pin: PIN of a module behind a RACS server or a reader.
        is_confirmed: For a hop, whether a button is pushed.

    Raises:
        ElementUriError: It is none of them, or the PIN is not one.
    """
    if is_reader_uri(text):
        return ReaderModule.decode(text, pin=pin)
    if not text.lower().startswith(f"{RACS_SCHEME}:"):
        return HopModule(ElementUri.decode(text), is_confirmed)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", DEFAULT_PORT if parts.port is None else parts.port
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise ElementUriError("the URI of a module is malformed", hint=MODULE_HINT) from None
    unknown = [name for name, _ in query if name != "aid"]
    if "@" in parts.netloc or parts.fragment or unknown or len(query) > 1:
        raise ElementUriError("the URI of a module has parts we do not know", hint=MODULE_HINT)
    seid = unquote(parts.path.removeprefix("/"))
    try:
        aid = Aid.from_hex(query[0][1]) if query else DEFAULT_AID
    except DecodeError as fault:
        raise ElementUriError(str(fault), hint=MODULE_HINT) from None
    return RacsModule(host, port, seid, pki, aid, pin)
