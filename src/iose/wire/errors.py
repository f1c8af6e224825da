# SPDX-License-Identifier: Apache-2.0
"""Root errors of the project; every room derives its own from these.

The whole tree, compared with the classes by ``tests/house``:

IoseError
├─ DecodeError
│  └─ ElementUriError
├─ LocalProtocolError
├─ RemoteProtocolError
│  ├─ TlsPeerError
│  ├─ RacsPeerError
│  ├─ I2cPeerError
│  ├─ SecureChannelError
│  │  └─ WrongKeysError
│  ├─ AnswerError
│  └─ AttestationError
├─ AlertReceived
├─ CryptoError
│  ├─ InvalidTagError
│  └─ InvalidSignatureError
├─ StatusWordError
├─ CredentialsError
│  └─ MissingPskError
├─ KeystoreError
├─ CardManagementError
├─ SessionError
│  ├─ UnreachableError
│  ├─ SessionTimeoutError
│  ├─ SessionClosedError
│  ├─ PskChangeError
│  ├─ ModuleError
│  │  └─ ModulePinError
│  └─ HandshakeError
│     ├─ AuthenticationError
│     ├─ UnknownNameError
│     └─ ElementBusyError
├─ ScardError
├─ StoreError
├─ RoutingError
├─ RuleError
├─ IdentityError
├─ RefusedError
├─ HttpRefusedError
├─ AuditError
├─ QueueFullError
├─ ConfigurationError
├─ ControlError
├─ PeerProgramError
└─ TransportError
   ├─ NoReaderError
   ├─ NoCardError
   ├─ CardRemovedError
   ├─ CardBusyError
   ├─ TransportTimeoutError
   ├─ NotSentError
   └─ RacsRefusedError
"""


class IoseError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        hint: The operator's next step, or None. Only the command line and the dashboard print it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class DecodeError(IoseError):
    """Outside bytes do not fit the format.

    Attributes:
        offset: Position in the input where the fault was found, in bytes.
    """

    def __init__(self, message: str, *, offset: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


class LocalProtocolError(IoseError):
    """Our own caller asked for an illegal move: the code must be fixed."""


class RemoteProtocolError(IoseError):
    """The peer broke its protocol: answer, then close."""


class StoreError(IoseError):
    """A persistent medium is full or broken; nothing was written."""
