# SPDX-License-Identifier: Apache-2.0
"""What both forms of an element have in common: its properties, and a method for each command.

The forms differ in ``run``: the blocking one returns a value, the asyncio one a coroutine. They
inherit the rest: written twice, the list of commands would drift.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from iose.client import commands
from iose.client.codec import Command
from iose.client.dialogue import Dialogue
from iose.client.uri import ElementUri

T = TypeVar("T")
P = ParamSpec("P")


class _Blocking(Protocol):
    def run(self, command: Command[T]) -> T: ...


class _Asyncio(Protocol):
    def run(self, command: Command[T]) -> Coroutine[Any, Any, T]: ...


class _Method(Generic[P, T]):
    def __init__(self, build: Callable[P, Command[T]]) -> None:
        self._build = build

    @overload
    def __get__(self, element: None, owner: type) -> Callable[P, Command[T]]: ...
    @overload
    def __get__(self, element: _Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, element: _Asyncio, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, element: _Blocking | _Asyncio | None, owner: type) -> Callable[P, object]:
        build = self._build
        if element is None:
            return build

        @wraps(build)
        def method(*args: P.args, **options: P.kwargs) -> object:
            return element.run(build(*args, **options))

        return method


class KeystoreElement:
    """A secure element and the session with it, whatever form its calls have."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    version = _Method(commands.version)
    echo = _Method(commands.echo)
    echo_bytes = _Method(commands.echo_bytes)
    command = _Method(commands.raw)
    application_public_key = _Method(commands.application_public_key)
    certificate = _Method(commands.certificate)
    set_certificate = _Method(commands.set_certificate)
    prove = _Method(commands.prove)
    session_secret = _Method(commands.session_secret)
    clear_key = _Method(commands.clear_key)
    generate_key = _Method(commands.generate_key)
    seal_key = _Method(commands.seal_key)
    is_key_sealed = _Method(commands.is_key_sealed)
    public_key = _Method(commands.public_key)
    set_public_key = _Method(commands.set_public_key)
    private_key = _Method(commands.private_key)
    set_private_key = _Method(commands.set_private_key)
    sign = _Method(commands.sign)
    generate_seed = _Method(commands.generate_seed)
    set_seed = _Method(commands.set_seed)
    seed = _Method(commands.seed)
    derive = _Method(commands.derive)
    write_record = _Method(commands.write_record)
    read_record = _Method(commands.read_record)
    hmac = _Method(commands.hmac)
    aes_encrypt = _Method(commands.aes_encrypt)
    aes_decrypt = _Method(commands.aes_decrypt)
    set_identity = _Method(commands.set_identity)
    set_guest_identity = _Method(commands.set_guest_identity)
    set_guest_psk = _Method(commands.set_guest_psk)
    guest_psk = _Method(commands.guest_psk)
    set_flags = _Method(commands.set_flags)
    set_module_psk = _Method(commands.set_module_psk)
    module_binder = _Method(commands.module_binder)
    module_handshake_secret = _Method(commands.module_handshake_secret)

    @property
    def uri(self) -> ElementUri:
        """Where the element is."""
        return self._dialogue.access.uri

    @property
    def handshake_secret(self) -> bytes | None:
        """The handshake secret of the session, which ``prove`` signs; None when it is over."""
        return self._dialogue.handshake_secret

    @property
    def is_change_lost(self) -> bool:
        """Whether the session is under the old PSK, though the element was asked to change it."""
        return self._dialogue.is_change_lost

    def has_psk(self, psk: bytes) -> bool:
        """Return whether sessions with the element are opened with this key."""
        return self._dialogue.has_psk(psk)
