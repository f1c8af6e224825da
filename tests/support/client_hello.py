# SPDX-License-Identifier: Apache-2.0
"""ClientHellos of any shape, for tests of what reads them."""

from tests.support.scripted_connection import record


def extension(kind: int, body: bytes) -> bytes:
    """Return one extension."""
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def name_list(*names: bytes, kind: int = 0) -> bytes:
    """Return the body of a server_name extension."""
    entries = b"".join(bytes((kind,)) + len(name).to_bytes(2, "big") + name for name in names)
    return len(entries).to_bytes(2, "big") + entries


def client_hello(
    *names: bytes, padding: int = 0, extensions: bytes | None = None, trailing: bytes = b""
) -> bytes:
    """Return the handshake message; without names, without server_name."""
    if extensions is None:
        extensions = extension(43, b"\x02\x03\x04")
        if names:
            extensions += extension(0, name_list(*names))
        if padding:
            extensions += extension(21, bytes(padding))
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x04" + b"\x01\x00"
    body += len(extensions).to_bytes(2, "big") + extensions + trailing
    return b"\x01" + len(body).to_bytes(3, "big") + body


def hello_record(*names: bytes, padding: int = 0) -> bytes:
    """Return the ClientHello in one record."""
    return record(client_hello(*names, padding=padding), 0x16)
