# SPDX-License-Identifier: Apache-2.0
"""A TLS 1.3 PSK client that is not ours: the system's OpenSSL library, driven through ctypes.

The measurements use it for an element and for the reference, so that both meet the same client.
OpenSSL works outside Python's lock, so several threads of this client really run side by side.
"""

import ctypes
import ctypes.util
import socket
import struct
from types import TracebackType
from typing import Self

from iose.wire.errors import IoseError

TLS_1_3 = 0x0304
CCM_SUITE = b"TLS_AES_128_CCM_SHA256"
CCM_SUITE_NUMBER = 0x1304
P256 = b"P-256"

# Commands of SSL_CTX_ctrl and SSL_ctrl, from OpenSSL's public headers.
_SET_SERVER_NAME = 55
_SET_GROUPS_LIST = 92
_SET_MIN_VERSION = 123
_HOST_NAME = 0

_RECORD_BYTES = 16_384
_ERROR_BYTES = 256
_TIMEOUT_S = 10

_PskCallback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_void_p),
)
_POINTER, _INT, _LONG, _BYTES = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "TLS_client_method": (_POINTER, []),
    "SSL_CTX_new": (_POINTER, [_POINTER]),
    "SSL_CTX_free": (None, [_POINTER]),
    "SSL_CTX_ctrl": (_LONG, [_POINTER, _INT, _LONG, _POINTER]),
    "SSL_CTX_set_ciphersuites": (_INT, [_POINTER, _BYTES]),
    "SSL_CTX_set_psk_use_session_callback": (None, [_POINTER, _PskCallback]),
    "SSL_new": (_POINTER, [_POINTER]),
    "SSL_free": (None, [_POINTER]),
    "SSL_ctrl": (_LONG, [_POINTER, _INT, _LONG, _POINTER]),
    "SSL_set_fd": (_INT, [_POINTER, _INT]),
    "SSL_connect": (_INT, [_POINTER]),
    "SSL_shutdown": (_INT, [_POINTER]),
    "SSL_read": (_INT, [_POINTER, _POINTER, _INT]),
    "SSL_write": (_INT, [_POINTER, _BYTES, _INT]),
    "SSL_CIPHER_find": (_POINTER, [_POINTER, _BYTES]),
    "SSL_SESSION_new": (_POINTER, []),
    "SSL_SESSION_dup": (_POINTER, [_POINTER]),
    "SSL_SESSION_free": (None, [_POINTER]),
    "SSL_SESSION_set1_master_key": (_INT, [_POINTER, _BYTES, ctypes.c_size_t]),
    "SSL_SESSION_set_cipher": (_INT, [_POINTER, _POINTER]),
    "SSL_SESSION_set_protocol_version": (_INT, [_POINTER, _INT]),
    "ERR_get_error": (ctypes.c_ulong, []),
    "ERR_error_string_n": (None, [ctypes.c_ulong, _POINTER, ctypes.c_size_t]),
    "OpenSSL_version": (_BYTES, [_INT]),
}


class PeerProgramError(IoseError):
    """A program or library a measurement needs is absent, or did not do its part."""


def load_openssl() -> ctypes.CDLL:
    """Return the system's libssl, its functions typed.

    Raises:
        PeerProgramError: OpenSSL 3 is not there.
    """
    name = ctypes.util.find_library("ssl") or "libssl.so.3"
    try:
        library = ctypes.CDLL(name)
        for function, (result, arguments) in _SIGNATURES.items():
            pointer = getattr(library, function)
            pointer.restype, pointer.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise PeerProgramError(
            f"no usable libssl: {error}", hint="install the package openssl (3.0 or later)"
        ) from error
    return library


def openssl_version(library: ctypes.CDLL) -> str:
    """Return the version of the library, as it words it."""
    version: bytes = library.OpenSSL_version(0)
    return version.decode()


class OpensslClient:
    """What OpenSSL needs to call one element: key, identity, name; one suite and one group."""

    def __init__(
        self, library: ctypes.CDLL, key: bytes, identity: bytes, server_name: str | None = None
    ) -> None:
        self._library = library
        self._server_name = server_name.encode() if server_name else None
        self._identity = ctypes.create_string_buffer(identity, len(identity))
        self._context = library.SSL_CTX_new(library.TLS_client_method())
        library.SSL_CTX_ctrl(self._context, _SET_MIN_VERSION, TLS_1_3, None)
        library.SSL_CTX_set_ciphersuites(self._context, CCM_SUITE)
        library.SSL_CTX_ctrl(self._context, _SET_GROUPS_LIST, 0, P256)
        self._session = self._psk_session(key)
        self._callback = _PskCallback(self._use_psk)
        library.SSL_CTX_set_psk_use_session_callback(self._context, self._callback)

    def _psk_session(self, key: bytes) -> int:
        """Return the session that stands for an external PSK."""
        connection = self._library.SSL_new(self._context)
        number = struct.pack(">H", CCM_SUITE_NUMBER)
        suite = self._library.SSL_CIPHER_find(connection, number)
        session: int = self._library.SSL_SESSION_new()
        self._library.SSL_SESSION_set1_master_key(session, key, len(key))
        self._library.SSL_SESSION_set_cipher(session, suite)
        self._library.SSL_SESSION_set_protocol_version(session, TLS_1_3)
        self._library.SSL_free(connection)
        return session

    def _use_psk(
        self,
        _connection: int,
        _hash: int,
        identity: "ctypes.Array[ctypes.c_void_p]",
        size: "ctypes.Array[ctypes.c_size_t]",
        session: "ctypes.Array[ctypes.c_void_p]",
    ) -> int:
        """Give OpenSSL the key for one ClientHello; it owns the session it gets."""
        identity[0] = ctypes.addressof(self._identity)
        size[0] = len(self._identity)
        session[0] = self._library.SSL_SESSION_dup(self._session)
        return 1

    def connect(self, address: tuple[str, int]) -> "OpensslConnection":
        """Return an open session: TCP connected, handshake done.

        Raises:
            PeerProgramError: The handshake failed.
            OSError: There was no TCP connection.
        """
        link = socket.create_connection(address, timeout=_TIMEOUT_S)
        link.settimeout(None)  # blocking, for OpenSSL; the kernel keeps the time instead
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _TIMEOUT_S, 0))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = OpensslConnection(self._library, self._library.SSL_new(self._context), link)
        connection.handshake(self._server_name)
        return connection

    def close(self) -> None:
        """Free what OpenSSL holds; the connections must be closed before."""
        self._library.SSL_SESSION_free(self._session)
        self._library.SSL_CTX_free(self._context)


class OpensslConnection:
    """One open session."""

    def __init__(self, library: ctypes.CDLL, handle: int, link: socket.socket) -> None:
        self._library = library
        self._handle = handle
        self._link = link
        self._buffer = ctypes.create_string_buffer(_RECORD_BYTES)
        library.SSL_set_fd(handle, link.fileno())

    def handshake(self, server_name: bytes | None) -> None:
        """Do the handshake, with a server name or without.

        Raises:
            PeerProgramError: It failed; the connection is closed.
        """
        if server_name:
            self._library.SSL_ctrl(self._handle, _SET_SERVER_NAME, _HOST_NAME, server_name)
        if self._library.SSL_connect(self._handle) != 1:
            reason = self._error()
            self._free()
            raise PeerProgramError(f"handshake failed: {reason}")

    def ask(self, line: bytes) -> bytes:
        """Return the record that answers one record.

        Raises:
            PeerProgramError: The session broke, or nothing came in ten seconds.
        """
        if self._library.SSL_write(self._handle, line, len(line)) != len(line):
            raise PeerProgramError(f"write failed: {self._error()}")
        count = self._library.SSL_read(self._handle, self._buffer, _RECORD_BYTES)
        if count <= 0:
            raise PeerProgramError(f"no answer: {self._error()}")
        return self._buffer.raw[:count]

    def close(self) -> None:
        """Send close_notify and close."""
        self._library.SSL_shutdown(self._handle)
        self._free()

    def _free(self) -> None:
        self._library.SSL_free(self._handle)
        self._link.close()

    def _error(self) -> str:
        code = self._library.ERR_get_error()
        if not code:
            return "the connection was closed"
        text = ctypes.create_string_buffer(_ERROR_BYTES)
        self._library.ERR_error_string_n(code, text, _ERROR_BYTES)
        return text.value.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
