# SPDX-License-Identifier: Apache-2.0
"""The server name of a ClientHello, and nothing else of it (RFC 8446 §4.1.2, RFC 6066 §3).

The bridge peeks here to find the element; everything else is the element's to judge.
"""

from typing import Final

from iose.tls.constants import ExtensionType, HandshakeType
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

HANDSHAKE_HEADER_SIZE: Final = 4
RANDOM_SIZE: Final = 32
SESSION_ID_LIMIT: Final = 32
HOST_NAME: Final = 0


def handshake_size(data: bytes | bytearray) -> int | None:
    """Return the whole size of the ClientHello that begins ``data``, None while that is unknown.

    Raises:
        DecodeError: Another handshake message begins here.
    """
    if data and data[0] != HandshakeType.CLIENT_HELLO:
        raise DecodeError(f"expected a ClientHello, found handshake type {data[0]}")
    if len(data) < HANDSHAKE_HEADER_SIZE:
        return None
    return HANDSHAKE_HEADER_SIZE + int.from_bytes(data[1:HANDSHAKE_HEADER_SIZE], "big")


def read_server_name(hello: bytes) -> str | None:
    """Return the first host name of a whole ClientHello, None when it has none (RFC 6066 §3).

    A name that no host can have comes back with its bytes escaped: it matches no element, and
    neither a log nor a terminal that shows it is at the client's mercy.

    Raises:
        DecodeError: A field does not fit, or bytes are left over.
    """
    reader = ByteReader(hello)
    reader.read_uint8()
    body = reader.read_vector(3)
    reader.finish()
    body.read_uint16()
    body.read_bytes(RANDOM_SIZE)
    body.read_opaque(1, high=SESSION_ID_LIMIT)
    suites = body.read_opaque(2, low=2)
    if len(suites) % 2:
        raise DecodeError("a list of cipher suites has an odd size", offset=body.offset)
    body.read_opaque(1, low=1)
    if not body.remaining:
        return None
    extensions = body.read_vector(2)
    body.finish()
    name = None
    while extensions.remaining:
        kind = extensions.read_uint16()
        extension = extensions.read_vector(2)
        if kind == ExtensionType.SERVER_NAME and name is None:
            name = _read_name_list(extension)
    return name


def _read_name_list(extension: ByteReader) -> str | None:
    names = extension.read_vector(2, low=1)
    extension.finish()
    found = None
    while names.remaining:
        kind = names.read_uint8()
        name = names.read_opaque(2, low=1)
        if kind == HOST_NAME and found is None:
            found = _shown(name)
    return found


def _shown(name: bytes) -> str:
    text = name.decode("latin-1")
    return text if text.isascii() and text.isprintable() else repr(name)[2:-1]
