# SPDX-License-Identifier: Apache-2.0
"""The one module that calls pyscard: its C functions, with types and with errors as exceptions.

Every call blocks, and lets go of the interpreter's lock while it does (seen with pyscard 2.3.1:
it wraps each of its functions in Py_BEGIN_ALLOW_THREADS).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from iose.transport.pcsc.codes import Disposition, Protocol, ReaderFlag, ScardCode, ShareMode
from iose.wire.errors import IoseError

SCOPE_SYSTEM: Final = 2
CODE_MASK: Final = 0xFFFFFFFF  # a C long is signed where it has 32 bits
ALONE_S: Final = 0.5  # a call that takes longer is stuck, and waited for no more

# libpcsclite 1.9.9 walks through all contexts without its lock at the end of SCardDisconnect, and
# crashes when another thread frees one meanwhile; contexts come and go one call at a time
_contexts: Final = threading.Lock()


class ScardError(IoseError):
    """A call to the PC/SC service failed; it leaves this package as a TransportError.

    Attributes:
        code: What the call returned.
    """

    def __init__(self, code: int) -> None:
        name = f" {ScardCode(code).name}" if code in set(ScardCode) else ""
        super().__init__(f"PC/SC error {code:08X}{name}")
        self.code = code


@dataclass(frozen=True, slots=True)
class ReaderLook:
    """One reader, as the service sees it.

    Attributes:
        name: What the service calls it.
        state: ``ReaderFlag``, with the count of insertions and removals above its 16 bits.
        atr: The card's answer to reset; b"" when there is none.
    """

    name: str
    state: int
    atr: bytes = b""

    def has(self, flag: ReaderFlag) -> bool:
        """Return whether a flag is set."""
        return bool(self.state & flag)


class Scard:
    """The PC/SC service of this machine; safe to use in any number of threads.

    Args:
        module: ``smartcard.scard``, or what stands in for it in tests.
    """

    def __init__(self, module: Any) -> None:  # noqa: ANN401 - pyscard has no types
        self._module = module

    def establish_context(self) -> int:
        """Return a new context; the service starts, where it is started by use.

        Raises:
            ScardError: The service is not there.
        """
        with _alone():
            code, context = self._module.SCardEstablishContext(SCOPE_SYSTEM)
        _check(code)
        return int(context)

    def release_context(self, context: int) -> None:
        """Give a context up; that it is unknown by now is no error."""
        with _alone():
            self._module.SCardReleaseContext(context)

    def list_readers(self, context: int) -> list[str]:
        """Return the names of all readers.

        Raises:
            ScardError: The service is gone.
        """
        code, names = self._module.SCardListReaders(context, [])
        if code & CODE_MASK == ScardCode.NO_READERS_AVAILABLE:
            return []
        _check(code)
        return [str(name) for name in names]

    def wait_for_change(
        self, context: int, timeout_ms: int, known: Sequence[tuple[str, int]]
    ) -> list[ReaderLook]:
        """Return the readers as they are when one differs from what is known, or in time.

        Args:
            context: A context.
            timeout_ms: Longest wait, in milliseconds; 0 only looks.
            known: Names, each with the state last seen.

        Raises:
            ScardError: A reader or the service is gone.
        """
        code, looks = self._module.SCardGetStatusChange(context, timeout_ms, list(known))
        if code & CODE_MASK != ScardCode.TIMEOUT:
            _check(code)
        kept = ~int(ReaderFlag.CHANGED)  # the flag itself would clear the count above the flags
        return [ReaderLook(str(name), int(state) & kept, bytes(atr)) for name, state, atr in looks]

    def check_free(self, context: int, reader: str) -> None:
        """Return when nobody uses a reader: connecting to it waits for the end of a transaction.

        Raises:
            ScardError: Another program is connected, or the reader is gone.
        """
        looks = self.wait_for_change(context, 0, [(reader, ReaderFlag.UNAWARE)])
        if any(look.has(ReaderFlag.INUSE | ReaderFlag.EXCLUSIVE) for look in looks):
            raise ScardError(ScardCode.SHARING_VIOLATION)

    def connect(
        self, context: int, reader: str, mode: ShareMode, protocols: Protocol
    ) -> tuple[int, int]:
        """Return a handle, and the protocol in use.

        Raises:
            ScardError: No reader, no card, or held by others.
        """
        code, handle, protocol = self._module.SCardConnect(context, reader, mode, protocols)
        _check(code)
        return int(handle), int(protocol)

    def reconnect(self, handle: int, protocols: Protocol, how: Disposition) -> int:
        """Reset the card or take its power for a moment; return the protocol in use.

        Raises:
            ScardError: The card is gone.
        """
        code, protocol = self._module.SCardReconnect(handle, ShareMode.EXCLUSIVE, protocols, how)
        _check(code)
        return int(protocol)

    def disconnect(self, handle: int, how: Disposition) -> None:
        """Let a card or reader go; that it is gone is no error."""
        with _alone():
            self._module.SCardDisconnect(handle, how)

    def atr(self, handle: int) -> bytes:
        """Return the answer to the last reset.

        Raises:
            ScardError: The card is gone.
        """
        code, _, _, _, atr = self._module.SCardStatus(handle)
        _check(code)
        return bytes(atr)

    def transmit(self, handle: int, protocol: int, command: bytes) -> bytes:
        """Return the card's answer to one command.

        Raises:
            ScardError: No answer.
        """
        code, answer = self._module.SCardTransmit(handle, protocol, list(command))
        _check(code)
        return bytes(answer)

    def attribute(self, handle: int, number: int) -> bytes:
        """Return an attribute of a reader.

        Raises:
            ScardError: It has none such.
        """
        code, value = self._module.SCardGetAttrib(handle, number)
        _check(code)
        return bytes(value)


def load_scard() -> Scard | None:
    """Return the service's library, None where pyscard is not installed."""
    try:
        return Scard(import_module("smartcard.scard"))
    except ImportError:
        return None


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other threads out of what the library keeps of contexts; not for ever."""
    is_alone = _contexts.acquire(timeout=ALONE_S)
    try:
        yield
    finally:
        if is_alone:
            _contexts.release()


def _check(code: int) -> None:
    if code & CODE_MASK != ScardCode.SUCCESS:
        raise ScardError(code & CODE_MASK)
