# SPDX-License-Identifier: Apache-2.0
"""Messages on an open session of TLS 1.3, both roles (RFC 8446 §4.6)."""

from dataclasses import dataclass

from iose.tls.constants import HandshakeType
from iose.tls.events import KeyUpdated
from iose.tls.messages import HandshakeMessage, KeyUpdate, NewSessionTicket
from iose.tls.session import Session
from iose.tls.states import State, WaitingState


@dataclass(frozen=True, slots=True)
class Open:
    """The handshake is complete; application data does not pass here."""

    session: Session
    state: State

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Follow a KeyUpdate; read a ticket and forget it, for we resume nothing.

        Raises:
            IoseError: The message is malformed, or there are too many.
        """
        self.session.count_idle_record()
        if message.type is HandshakeType.KEY_UPDATE:
            self.session.receive_key_update(KeyUpdate.decode(message.body).request)
            self.session.events.append(KeyUpdated())
        else:
            NewSessionTicket.decode(message.body)
        return self
