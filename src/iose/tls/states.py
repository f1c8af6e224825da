# SPDX-License-Identifier: Apache-2.0
"""The transition table of both roles (RFC 8446 §A), and the only place where a state changes.

A waiting state is an object of its role's room; here are its name, what it may be given, and where
that may lead. A move that is not in the table is refused before the state ever sees it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from iose.tls.constants import AlertDescription, HandshakeType
from iose.tls.errors import TlsPeerError
from iose.tls.messages import HandshakeMessage
from iose.wire.errors import LocalProtocolError


class State(Enum):
    """What an engine waits for."""

    CLIENT_START = auto()
    CLIENT_WAIT_BINDER = auto()
    CLIENT_WAIT_SERVER_HELLO = auto()
    CLIENT_WAIT_SECOND_BINDER = auto()
    CLIENT_WAIT_SECOND_SERVER_HELLO = auto()
    CLIENT_WAIT_SECRET = auto()
    CLIENT_WAIT_ENCRYPTED_EXTENSIONS = auto()
    CLIENT_WAIT_FINISHED = auto()
    CLIENT_OPEN = auto()
    SERVER_WAIT_CLIENT_HELLO = auto()
    SERVER_WAIT_BINDER = auto()
    SERVER_WAIT_SECOND_CLIENT_HELLO = auto()
    SERVER_WAIT_SECOND_BINDER = auto()
    SERVER_WAIT_SECRET = auto()
    SERVER_WAIT_FINISHED = auto()
    SERVER_OPEN = auto()
    CLOSED = auto()


class LocalInput(Enum):
    """What our own caller gives an engine that waits for it."""

    START = auto()
    BINDER = auto()
    SECRET = auto()


Moves = Mapping[HandshakeType | LocalInput, frozenset[State]]

_S = State
_H = HandshakeType
_AFTER_BINDER: Final = frozenset({_S.SERVER_WAIT_SECRET, _S.SERVER_WAIT_FINISHED})
_AFTER_SERVER_HELLO: Final = frozenset(
    {
        _S.CLIENT_WAIT_SECRET,
        _S.CLIENT_WAIT_ENCRYPTED_EXTENSIONS,
    }
)
TRANSITIONS: Final[Mapping[State, Moves]] = {
    _S.CLIENT_START: {
        LocalInput.START: frozenset({_S.CLIENT_WAIT_BINDER, _S.CLIENT_WAIT_SERVER_HELLO}),
    },
    _S.CLIENT_WAIT_BINDER: {LocalInput.BINDER: frozenset({_S.CLIENT_WAIT_SERVER_HELLO})},
    _S.CLIENT_WAIT_SERVER_HELLO: {
        _H.SERVER_HELLO: _AFTER_SERVER_HELLO
        | {_S.CLIENT_WAIT_SECOND_BINDER, _S.CLIENT_WAIT_SECOND_SERVER_HELLO},
    },
    _S.CLIENT_WAIT_SECOND_BINDER: {
        LocalInput.BINDER: frozenset({_S.CLIENT_WAIT_SECOND_SERVER_HELLO})
    },
    _S.CLIENT_WAIT_SECOND_SERVER_HELLO: {_H.SERVER_HELLO: _AFTER_SERVER_HELLO},
    _S.CLIENT_WAIT_SECRET: {
        LocalInput.SECRET: frozenset({_S.CLIENT_WAIT_ENCRYPTED_EXTENSIONS}),
    },
    _S.CLIENT_WAIT_ENCRYPTED_EXTENSIONS: {
        _H.ENCRYPTED_EXTENSIONS: frozenset({_S.CLIENT_WAIT_FINISHED}),
    },
    _S.CLIENT_WAIT_FINISHED: {_H.FINISHED: frozenset({_S.CLIENT_OPEN})},
    _S.CLIENT_OPEN: {
        _H.NEW_SESSION_TICKET: frozenset({_S.CLIENT_OPEN}),
        _H.KEY_UPDATE: frozenset({_S.CLIENT_OPEN}),
    },
    _S.SERVER_WAIT_CLIENT_HELLO: {
        _H.CLIENT_HELLO: _AFTER_BINDER
        | {_S.SERVER_WAIT_BINDER, _S.SERVER_WAIT_SECOND_CLIENT_HELLO},
    },
    _S.SERVER_WAIT_BINDER: {
        LocalInput.BINDER: _AFTER_BINDER | {_S.SERVER_WAIT_SECOND_CLIENT_HELLO},
    },
    _S.SERVER_WAIT_SECOND_CLIENT_HELLO: {
        _H.CLIENT_HELLO: _AFTER_BINDER | {_S.SERVER_WAIT_SECOND_BINDER},
    },
    _S.SERVER_WAIT_SECOND_BINDER: {LocalInput.BINDER: _AFTER_BINDER},
    _S.SERVER_WAIT_SECRET: {LocalInput.SECRET: frozenset({_S.SERVER_WAIT_FINISHED})},
    _S.SERVER_WAIT_FINISHED: {_H.FINISHED: frozenset({_S.SERVER_OPEN})},
    _S.SERVER_OPEN: {_H.KEY_UPDATE: frozenset({_S.SERVER_OPEN})},
    _S.CLOSED: {},
}


class MessageState(Protocol):
    """A state that waits for a handshake message."""

    @property
    def state(self) -> State:
        """Its name in the table."""

    def receive(self, message: HandshakeMessage) -> "WaitingState":
        """Return the state after a message that the table allows here.

        Raises:
            IoseError: The message is refused; ``alerts.alert_for`` says how.
        """


@dataclass(frozen=True, slots=True)
class Pause:
    """A state that waits for our own caller; bytes from the peer must wait with it.

    Attributes:
        state: Its name in the table.
        resume: Called with what the caller gave; returns the next state.
    """

    state: State
    resume: "Callable[[bytes], WaitingState]"


WaitingState = MessageState | Pause


class StateMachine:
    """The present state of one engine; it changes here and nowhere else."""

    __slots__ = ("_state", "_waiting")

    def __init__(self, first: WaitingState) -> None:
        self._waiting: WaitingState | None = first
        self._state = first.state

    @property
    def state(self) -> State:
        """The name of the present state."""
        return self._state

    @property
    def is_paused(self) -> bool:
        """Whether our own caller must speak before the peer is heard."""
        return isinstance(self._waiting, Pause)

    @property
    def is_open(self) -> bool:
        """Whether application data may flow."""
        return self._state in (State.CLIENT_OPEN, State.SERVER_OPEN)

    def receive(self, message: HandshakeMessage) -> None:
        """Give the peer's message to the waiting state and move on.

        Raises:
            TlsPeerError: The message has no place here.
            IoseError: The waiting state refused it.
        """
        waiting = self._waiting
        allowed = TRANSITIONS[self._state].get(message.type)
        if allowed is None or waiting is None or isinstance(waiting, Pause):
            raise TlsPeerError(
                AlertDescription.UNEXPECTED_MESSAGE,
                f"handshake message {message.type} in state {self._state.name.lower()}",
            )
        self._move(waiting.receive(message), allowed)

    def require(self, given: LocalInput) -> Pause:
        """Return the state that waits for this from our caller.

        Raises:
            LocalProtocolError: None does; nothing changes.
        """
        if given not in TRANSITIONS[self._state] or not isinstance(self._waiting, Pause):
            raise LocalProtocolError(
                f"no {given.name.lower()} is wanted in state {self._state.name.lower()}"
            )
        return self._waiting

    def resume(self, given: LocalInput, value: bytes = b"") -> None:
        """Give the waiting state what it asked our caller for, and move on.

        Raises:
            LocalProtocolError: The engine does not wait for this.
            IoseError: The waiting state refused it.
        """
        waiting = self.require(given)
        self._move(waiting.resume(value), TRANSITIONS[self._state][given])

    def close(self) -> None:
        """End: the state and the secrets it holds are dropped."""
        self._waiting = None
        self._state = State.CLOSED

    def _move(self, following: WaitingState, allowed: frozenset[State]) -> None:
        if following.state not in allowed:
            raise LocalProtocolError(
                f"no way from {self._state.name.lower()} to {following.state.name.lower()}"
            )
        self._waiting = following
        self._state = following.state
