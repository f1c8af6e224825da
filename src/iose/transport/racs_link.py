# SPDX-License-Identifier: Apache-2.0
"""One RACS session: mutual TLS to a server, one request at a time (racs.md §2, §11).

The server must show a certificate of the CA that is given, made for a server; who asks for more
gives its name. Each request goes out in one piece, as the published server needs it, and waits
for its response. A session that failed once is of no more use.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iose.crypto.errors import CryptoError
from iose.crypto.x509 import Usage, decode_certificate
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.response import RacsRequest, RacsResponse, ResponseParser
from iose.transport.addresses import format_address
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)

HANDSHAKE_S: Final = 10.0  # racs.md §11
ANSWER_S: Final = 60.0  # a script of commands on a slow card
SILENCE_S: Final = 0.05  # racs.md §5.2: after a failure whose END the server forgot
SETTLE_S: Final = 0.2  # what a server needs to close after its last answer, on a busy machine
CLOSE_S: Final = 1.0
KEEPALIVE: Final = {  # a server that is cut off is found out within a minute, asked or not
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds
}
READ_SIZE: Final = 65_536
IDENTITY_FILES: Final = ("user.pem", "user.key", "ca.pem")
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
LEGACY_CIPHER: Final = "AES128-GCM-SHA256"  # static RSA: no forward secrecy

_MAYBE_DONE: Final = "the request may have been obeyed"
_NO_ANSWER: Final = f"the server closed the session without an answer; {_MAYBE_DONE}"
_NOT_SENT: Final = "the server closed the session; nothing more was sent"
_CERTIFICATE_ALERTS: Final = ("certificate", "unknown ca", "access denied")
_REFUSED_HINT: Final = "is the node running, and is this its RACS port?"
_CHAIN_HINT: Final = "take ca.pem from that node: --pki DIR"
_FOLDER_HINT: Final = (
    "give the folder that 'iose pki user' made, which you may read: --pki DIR, or 'pki' of its "
    "table [[readers]]"
)
_VERIFY_HINTS: Final = {  # by OpenSSL's numbers
    10: "the node's certificate is out of date: on the node, iose pki renew",
    62: "--server-name gives a name that the node's certificate holds",
    64: "--server-name gives an address that the node's certificate holds",
}
_CERTIFICATE_HINT: Final = (
    "the node must trust who issued your certificate, and not have revoked it: iose pki"
)
_CLOSED_HINT: Final = (
    "servers close idle sessions, and sessions whose certificate they refuse or revoke"
)
_SILENT_HINT: Final = "does its element answer, and is the network between there?"
_LEGACY_HINT: Final = "is it the RACS port? the author's own server needs --legacy"
_NOT_LEGACY_HINT: Final = (
    "is it the RACS port? our nodes take --legacy only with legacy_rsa_kx = true: leave it out"
)


@dataclass(frozen=True, slots=True)
class RacsEndpoint:
    """A RACS server and who we are to it.

    Attributes:
        host: Name or address, without brackets.
        port: TCP port.
        certificate: PEM file of our certificate, and what leads from it to the CA.
        key: PEM file of its key, not encrypted.
        ca: PEM file of the CA that the server's certificate must come from.
        server_name: Name the certificate must hold, sent as SNI; None takes any name of that CA.
        is_legacy: Speak as the published server needs it: TLS 1.2 with static RSA, no SNI, and
            nothing that overruns its memory.
        is_unverified: Take any server; whoever sits between may read and change everything.
        answer_s: Longest wait for a response.
    """

    host: str
    port: int
    certificate: Path
    key: Path
    ca: Path
    server_name: str | None = None
    is_legacy: bool = False
    is_unverified: bool = False
    answer_s: float = ANSWER_S

    @property
    def address(self) -> str:
        """``HOST:PORT``, an IPv6 address in brackets."""
        return format_address(self.host, self.port)


def identity_files(folder: Path) -> tuple[Path, Path, Path]:
    """Return certificate, key and CA in the folder of a user, as ``iose pki`` lays it out."""
    certificate, key, ca = IDENTITY_FILES
    return folder / certificate, folder / key, folder / ca


class RacsLink:
    """One RACS session; tasks that share it wait for each other."""

    def __init__(self, endpoint: RacsEndpoint) -> None:
        self.endpoint = endpoint
        self._parser = ResponseParser()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent, as far as is known here."""
        if self._writer is None or self._reader is None:
            return False
        return not self._writer.is_closing() and not self._reader.at_eof()

    async def open(self) -> None:
        """Connect when there is no session; our certificate may still be refused at a request.

        Raises:
            NoReaderError: Nothing answers there, it is not the right server, or it refused us.
            TransportTimeoutError: The handshake takes too long.
        """
        async with self._lock:
            if not self.is_open:
                self.abort()  # one that the server has ended
                await self._connect()

    async def _connect(self) -> None:
        endpoint = self.endpoint
        _check_names(endpoint)
        context = _client_context(endpoint)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                self._reader, self._writer = await asyncio.open_connection(
                    endpoint.host,
                    endpoint.port,
                    ssl=context,
                    server_hostname=endpoint.server_name or "",  # "" sends no SNI
                )
        except TimeoutError:
            raise TransportTimeoutError(
                endpoint.address, f"no session within {HANDSHAKE_S:g} s", hint=_REFUSED_HINT
            ) from None
        except OSError as error:
            fault = _connect_error(endpoint, error)
            raise fault from error
        _keep_alive(self._writer.get_extra_info("socket"))
        self._parser = ResponseParser()
        try:
            _check_server(endpoint, self._server_certificate())
        except NoReaderError:
            self.abort()
            raise

    async def request(self, request: RacsRequest, answer_s: float = 0) -> RacsResponse:
        """Return the response, whatever its status lines say.

        Args:
            request: What to ask.
            answer_s: Longest wait for the response; 0 for what the endpoint says.

        Raises:
            LocalProtocolError: The request would overrun the published server, which this is said
                to be; nothing was sent.
            CardRemovedError: The session is over; the message says whether the request was sent.
            TransportTimeoutError: No response in time; the session is closed.
            RacsPeerError: The server does not speak RACS; the session is closed.
        """
        data = request.encode(is_careful=self.endpoint.is_legacy)
        async with self._lock:
            if self._reader is None or self._writer is None or self._writer.is_closing():
                raise CardRemovedError(self.endpoint.address, "the session is closed")
            is_answered = False
            try:
                await self._check_silence(self._reader)
                self._writer.write(data)  # in one TLS record when it fits
                wait_s = answer_s or self.endpoint.answer_s
                response = await self._response(self._reader, wait_s)
                if response.name not in {"", request.name} or not self._parser.is_idle:
                    raise RacsPeerError("the server answers what it was not asked")
                is_answered = True
            finally:
                if not is_answered:  # a late answer would be taken for the next one
                    self.abort()
        return response

    async def settle(self, wait_s: float = SETTLE_S) -> None:
        """Wait a moment whether the server closes, as the published one does after some failures.

        Without this, the next request could be sent into a session that is over. Who waits longer
        hears at once when the session ends; nothing else can be asked meanwhile.

        Raises:
            RacsPeerError: The server says more than it was asked; the session is closed.
        """
        async with self._lock:
            if self._reader is None:
                return
            try:
                async with asyncio.timeout(wait_s):
                    data = await self._reader.read(READ_SIZE)
            except TimeoutError:
                return
            except OSError:
                data = b""
            is_sound = False
            try:
                self._parser.receive_data(data)  # an END that comes late
                is_sound = bool(data) and self._parser.is_idle
            finally:
                if not is_sound:
                    self.abort()

    async def close(self) -> None:
        """End the session; never raises."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is None:
            return
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await writer.wait_closed()
                return
        writer.transport.abort()

    def abort(self) -> None:
        """End the session at once."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    def _server_certificate(self) -> bytes | None:
        tls = None if self._writer is None else self._writer.get_extra_info("ssl_object")
        certificate: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
        return certificate

    async def _check_silence(self, reader: asyncio.StreamReader) -> None:
        """Check that nothing came since the last response; it would be taken for the next one.

        Raises:
            CardRemovedError: The server has ended the session.
            RacsPeerError: It says more than it was asked.
        """
        try:
            async with asyncio.timeout(0):
                data = await reader.read(READ_SIZE)
        except TimeoutError:
            return
        except OSError as error:
            fault = _session_error(self.endpoint, error, _NOT_SENT)
            raise fault from error
        if not data:
            raise CardRemovedError(self.endpoint.address, _NOT_SENT, hint=_CLOSED_HINT)
        self._parser.receive_data(data)  # an END that comes late
        if not self._parser.is_idle:
            raise RacsPeerError("the server answers what it was not asked")

    async def _response(self, reader: asyncio.StreamReader, wait_s: float) -> RacsResponse:
        parser = self._parser
        try:
            async with asyncio.timeout(wait_s):
                while (response := parser.next_response()) is None:
                    data = await self._some(reader)
                    parser.receive_data(data)
                    if not data:
                        parser.end_failure()
        except TimeoutError:
            raise TransportTimeoutError(
                self.endpoint.address,
                f"no response within {wait_s:g} s; {_MAYBE_DONE}",
                hint=_SILENT_HINT,
            ) from None
        except OSError as error:
            fault = _session_error(self.endpoint, error, _NO_ANSWER)
            raise fault from error
        return response

    async def _some(self, reader: asyncio.StreamReader) -> bytes:
        """Return what comes next, or nothing when a failure has been told and no END follows.

        Raises:
            CardRemovedError: The server closed the session.
        """
        if not self._parser.is_unfinished_failure:
            data = await reader.read(READ_SIZE)
            if not data:
                raise CardRemovedError(self.endpoint.address, _NO_ANSWER, hint=_CLOSED_HINT)
            return data
        try:
            async with asyncio.timeout(SILENCE_S):
                return await reader.read(READ_SIZE)
        except TimeoutError:
            return b""


def _check_names(endpoint: RacsEndpoint) -> None:
    """Check what asyncio would stumble over, its socket left open.

    Raises:
        NoReaderError: The host or the server name can be no name.
    """
    for name in (endpoint.host, endpoint.server_name or ""):
        try:
            is_name = b"\0" not in name.encode("idna")
        except UnicodeError:
            is_name = False
        if not is_name:
            raise NoReaderError(endpoint.address, f"{name!r} is no name of a host")


def _client_context(endpoint: RacsEndpoint) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(LEGACY_CIPHER if endpoint.is_legacy else CIPHERS)
    if endpoint.is_legacy:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = endpoint.server_name is not None and not endpoint.is_unverified
    context.hostname_checks_common_name = endpoint.is_legacy  # a user's may be anything
    if endpoint.is_unverified:
        context.verify_mode = ssl.CERT_NONE
    else:
        _load(endpoint.ca, lambda: context.load_verify_locations(endpoint.ca))
    _load(
        endpoint.certificate,
        lambda: context.load_cert_chain(endpoint.certificate, endpoint.key, password=_no_password),
    )
    return context


def _load(path: Path, load: Callable[[], object]) -> None:
    """Load a file of ours into a context.

    Raises:
        NoReaderError: It is not there, or does not hold what it should.
    """
    try:
        load()
    except ssl.SSLError:
        raise NoReaderError(
            str(path), "not a certificate in PEM with a key that fits and has no passphrase"
        ) from None
    except OSError as error:
        raise NoReaderError(str(path), error.strerror or str(error), hint=_FOLDER_HINT) from None


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _no_password() -> str:
    return ""  # else OpenSSL asks whoever sits at the terminal


def _connect_error(endpoint: RacsEndpoint, error: OSError) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoReaderError(
            endpoint.address,
            f"the server's certificate is refused: {error.verify_message}",
            hint=_VERIFY_HINTS.get(error.verify_code, _CHAIN_HINT),
        )
    hint = _NOT_LEGACY_HINT if endpoint.is_legacy else _LEGACY_HINT
    if isinstance(error, ssl.SSLError):
        return _alert_error(endpoint, error) or NoReaderError(
            endpoint.address, f"TLS failed: {_reason(error)}", hint=hint
        )
    # an address that is no name has a negative number; asyncio's own text repeats the address
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    return NoReaderError(endpoint.address, f"cannot connect: {reason}", hint=_REFUSED_HINT)


def _session_error(endpoint: RacsEndpoint, error: OSError, message: str) -> TransportError:
    found = _alert_error(endpoint, error) if isinstance(error, ssl.SSLError) else None
    return found or CardRemovedError(endpoint.address, message, hint=_CLOSED_HINT)


def _alert_error(endpoint: RacsEndpoint, error: ssl.SSLError) -> TransportError | None:
    reason = _reason(error)
    if "alert" not in reason:
        return None
    if any(word in reason for word in _CERTIFICATE_ALERTS):
        return NoReaderError(
            endpoint.address,
            f"the server refused our certificate: {reason}",
            hint=_CERTIFICATE_HINT,
        )
    hint = _NOT_LEGACY_HINT if endpoint.is_legacy else _LEGACY_HINT
    return NoReaderError(endpoint.address, f"the server refused the session: {reason}", hint=hint)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no reason").lower().replace("_", " ")


def _check_server(endpoint: RacsEndpoint, certificate: bytes | None) -> None:
    """Check that a certificate of the CA is a node's, where no name was asked for.

    A user of the same CA could else stand between another user and the node.

    Raises:
        NoReaderError: It is not.
    """
    if endpoint.is_unverified or endpoint.is_legacy or endpoint.server_name is not None:
        return
    try:
        usage = decode_certificate(certificate or b"").usage
    except CryptoError:
        usage = Usage.OTHER
    if usage is not Usage.NODE:
        raise NoReaderError(
            endpoint.address,
            "the server's certificate is not made for a server",
            hint="give the name it must hold: --server-name",
        )
