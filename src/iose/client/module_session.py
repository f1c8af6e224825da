# SPDX-License-Identifier: Apache-2.0
"""From a credential to the module that computes with its PSK, wherever that is.

A hop's own key may be in a module again; the chain is followed before anything is opened.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from iose.client.access import Access, resolve_access
from iose.client.codec import Command
from iose.client.commands import module_binder, module_handshake_secret
from iose.client.dialogue import Dialogue, OpenLink
from iose.client.errors import (
    CredentialsError,
    ElementUriError,
    KeystoreError,
    ModuleError,
    ModulePinError,
)
from iose.client.module import HopModule, ModuleSession, RacsModule
from iose.client.module_place import ModuleForm, ReaderModule
from iose.wire.errors import IoseError

if TYPE_CHECKING:
    from iose.client.module_card import CardModule
    from iose.client.module_reader import FoundModule

T = TypeVar("T")

CHAIN_LIMIT: Final = 4  # each hop costs a handshake, and adds someone who can log in
_REFUSED_HINT: Final = (
    "has the hop a module's PSK (?A2, command set iose), and is the identity its owner's?"
)

OnLoop = Callable[[ModuleSession], ModuleSession]
"""Gives a session that needs an event loop one, where there is none."""


def module_of(
    access: Access, open_link: OpenLink, timeout_s: float, on_loop: OnLoop, depth: int = 0
) -> ModuleSession | None:
    """Return who computes with the PSK of an access; None when we hold it ourselves.

    Raises:
        ModuleError: The chain of hops is too long, or leads back to itself.
        CredentialsError: A PIN or the key of a hop is not known.
        ElementUriError: The key in the environment is malformed.
    """
    module = access.credential.module
    match module:
        case None:
            return None
        case RacsModule():
            _check_pin_is_known(module)
            return on_loop(_racs_session(module, _forgetter(module, access), timeout_s))
        case ReaderModule():
            _check_pin_is_known(module)
            return on_loop(_reader_session(module, _forgetter(module, access), timeout_s))
        case HopModule():
            if depth >= CHAIN_LIMIT:
                raise ModuleError(
                    f"the chain of modules is longer than {CHAIN_LIMIT} hops",
                    hint="does it lead back to itself? iose credentials list shows it",
                )
            hop = resolve_access(module.uri, store=access.store)
            inner = module_of(hop, open_link, timeout_s, on_loop, depth + 1)
            dialogue = Dialogue(hop, open_link, timeout_s, inner)
            return HopSession(dialogue, is_confirmed=module.is_confirmed)
        case _:
            return on_loop(module)


class HopSession:
    """A session with another element, which computes with a PSK it keeps (``ModuleSession``)."""

    def __init__(self, dialogue: Dialogue, *, is_confirmed: bool) -> None:
        self._dialogue = dialogue
        self._is_confirmed = is_confirmed

    async def open(self) -> None:
        """Open the session with the hop.

        Raises:
            ModuleError: It does not open.
        """
        try:
            await self._dialogue.open()
        except IoseError as fault:
            raise self._failed(fault) from fault

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            ModuleError: The hop is gone, or refuses.
        """
        return await self._ask(module_binder(transcript_hash))

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            ModuleError: The hop is gone, or refuses.
        """
        confirmed = self._is_confirmed
        return await self._ask(module_handshake_secret(shared_secret, confirmed=confirmed))

    async def close(self) -> None:
        """Close the session with the hop."""
        await self._dialogue.close()

    async def _ask(self, command: Command[T]) -> T:
        try:
            return await self._dialogue.exchange(command)
        except KeystoreError as fault:
            raise ModuleError(
                f"hop {self._dialogue.access.uri.address}: refuses to compute", hint=_REFUSED_HINT
            ) from fault
        except IoseError as fault:
            raise self._failed(fault) from fault

    def _failed(self, fault: IoseError) -> ModuleError:
        if isinstance(fault, ModuleError):
            return fault
        return ModuleError(f"hop {self._dialogue.access.uri.address}: {fault}", hint=fault.hint)


async def provision_module(module: RacsModule | ReaderModule, psk: bytes, timeout_s: float) -> None:
    """Give a module a PSK, in place of the one it has.

    Raises:
        ElementUriError: It is a board that is given its PSK otherwise.
        ModuleError: It cannot be reached, or refuses.
    """
    session: CardModule | FoundModule
    if isinstance(module, RacsModule):
        session = _racs_session(module, _forget_nothing, timeout_s)
    elif module.form is not ModuleForm.TEXT:
        session = _found_module(module, _forget_nothing, timeout_s)
    else:
        raise ElementUriError(
            "a module that takes lines of text is given its PSK by other means",
            hint="the manual of the board says how",
        )
    try:
        await session.open()
        await session.provision(psk)
    finally:
        await session.close()


def _racs_session(
    module: RacsModule, pin_refused: Callable[[], None], timeout_s: float
) -> "CardModule":
    # what most clients never need, and takes long to import
    from iose.client.module_card import CardModule  # noqa: PLC0415
    from iose.transport.racs_client import RacsEndpoint, RacsReader  # noqa: PLC0415
    from iose.transport.racs_link import identity_files  # noqa: PLC0415

    endpoint = RacsEndpoint(
        module.host,
        module.port,
        *identity_files(module.pki),
        answer_s=timeout_s,
    )
    reader = RacsReader(endpoint, module.seid)
    return CardModule(reader, module.pin, module.aid, pin_refused=pin_refused, timeout_s=timeout_s)


def _reader_session(
    module: ReaderModule, pin_refused: Callable[[], None], timeout_s: float
) -> ModuleSession:
    if module.form is not ModuleForm.TEXT:
        return _found_module(module, pin_refused, timeout_s)
    from iose.client.module_text import TextModule  # noqa: PLC0415  # as above

    return TextModule(module, pin_refused=pin_refused, timeout_s=timeout_s)


def _found_module(
    module: ReaderModule, pin_refused: Callable[[], None], timeout_s: float
) -> "FoundModule":
    from iose.client.module_reader import FoundModule  # noqa: PLC0415  # as above

    return FoundModule(module, pin_refused, timeout_s)


def _forget_nothing() -> None:
    """Do nothing: a PIN that is typed once is kept nowhere."""


def _check_pin_is_known(module: RacsModule | ReaderModule) -> None:
    if module.pin is None and module.needs_pin:
        raise CredentialsError(
            f"no PIN is kept for the module {module}, or the one kept was refused",
            hint="set it again, with the right PIN: iose credentials set --module",
        )


def _forgetter(module: RacsModule | ReaderModule, access: Access) -> Callable[[], None]:
    def forget_pin() -> None:
        try:
            access.store.forget_pin(module)
        except CredentialsError as fault:
            raise ModulePinError(
                f"the PIN of {module} was refused, and is still kept: {fault}",
                hint="do not call again with it: three wrong ones block it",
            ) from fault

    return forget_pin
