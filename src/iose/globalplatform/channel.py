# SPDX-License-Identifier: Apache-2.0
"""What both ends of a secure channel share: levels, variants, states, classes, padding.

SCP02 (GPCS 2.3.1 §E) and SCP03 (GPCS Amendment D 1.2). ``host`` and ``card`` hold the two ends,
``scp02`` and ``scp03`` what one session computes. Levels without a MAC on commands are refused at
both ends: a channel that authenticates once and then protects nothing is none.
"""

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Final

from iose.globalplatform.keys import DIVERSIFICATION_SIZE, KeyType
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWord
from iose.wire.errors import DecodeError, LocalProtocolError, RemoteProtocolError
from iose.wire.reader import ByteReader

INITIALIZE_UPDATE: Final = 0x50
EXTERNAL_AUTHENTICATE: Final = 0x82
CLASS: Final = 0x80
SECURE_MESSAGING: Final = 0x04  # bit of the class byte, GPCS 2.3.1 §11.1.4
SECURE_MESSAGING_BITS: Final = 0x0C  # the other kinds are not GlobalPlatform's
CHANNEL_BITS: Final = 0x03  # basic logical channels; they stay out of every MAC
FURTHER_CHANNEL: Final = 0x40  # class bytes of channels 4 to 19 put their bits elsewhere
SHORT_CHALLENGE_SIZE: Final = 8
LONG_CHALLENGE_SIZE: Final = 16
SCP02_CHALLENGE_SIZE: Final = 6
SCP02_COUNTER_SIZE: Final = 2
SCP03_COUNTER_SIZE: Final = 3
SCP02: Final = 2
SCP03: Final = 3
WARNINGS: Final = (0x62, 0x63)  # SW1
PADDING_MARK: Final = b"\x80"


class SecureChannelError(RemoteProtocolError):
    """A wrong cryptogram, MAC or padding, or a card that is not what was asked for.

    Attributes:
        status: The refusal: what the card answered, or what the card has to answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: StatusWord = StatusWord.SECURITY_STATUS_NOT_SATISFIED,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class SecurityLevel(IntFlag):
    """Protection of one channel, P1 of EXTERNAL AUTHENTICATE (GPCS Amendment D 1.2 §7.1.2)."""

    C_MAC = 0x01
    C_DECRYPTION = 0x02
    R_MAC = 0x10
    R_ENCRYPTION = 0x20

    @property
    def is_defined(self) -> bool:
        """Whether it is one of 01, 03, 11, 13 and 33."""
        return int(self) in _LEVELS


_LEVELS: Final = (0x01, 0x03, 0x11, 0x13, 0x33)
_RESPONSE_LEVEL: Final = SecurityLevel.R_MAC | SecurityLevel.R_ENCRYPTION


class ChannelState(Enum):
    """Life of one channel; nothing leaves CLOSED."""

    START = "start"
    CHALLENGED = "challenged"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    CLOSED = "closed"


class Scp02Option(IntFlag):
    """Bits of the parameter i of SCP02 (GPCS 2.3.1 §E.1.1)."""

    THREE_KEYS = 0x01
    EXPLICIT_INITIATION = 0x04
    ICV_ENCRYPTION = 0x10
    PSEUDO_RANDOM_CHALLENGE = 0x40


class Scp03Option(IntFlag):
    """Bits of the parameter i of SCP03 (GPCS Amendment D 1.2 §5.1)."""

    S16 = 0x01
    PSEUDO_RANDOM_CHALLENGE = 0x10
    R_MAC = 0x20
    R_ENCRYPTION = 0x40


_SCP02_BASE: Final = (
    Scp02Option.THREE_KEYS | Scp02Option.EXPLICIT_INITIATION | Scp02Option.ICV_ENCRYPTION
)
SCP02_SUPPORTED: Final = (int(_SCP02_BASE), int(_SCP02_BASE | Scp02Option.PSEUDO_RANDOM_CHALLENGE))


@dataclass(frozen=True, slots=True)
class ScpVariant:
    """A protocol and its parameter i.

    Attributes:
        protocol: 2 or 3.
        i: Options: 15 or 55 for SCP02; any defined ones for SCP03.
    """

    protocol: int
    i: int

    def __str__(self) -> str:
        """Return for example ``SCP03 i=70``."""
        return f"SCP{self.protocol:02X} i={self.i:02X}"

    @property
    def is_supported(self) -> bool:
        """Whether both ends here speak it."""
        match self.protocol:
            case 2:
                return self.i in SCP02_SUPPORTED
            case 3:
                options = Scp03Option(self.i & ~_SCP03_DEFINED)
                encrypts_alone = self.has_response_encryption and not self.has_response_mac
                return not options and not encrypts_alone
            case _:
                return False

    @property
    def is_s16(self) -> bool:
        """Whether challenges, cryptograms and MACs have 16 bytes instead of 8."""
        return self.protocol == SCP03 and bool(self.i & Scp03Option.S16)

    @property
    def has_random_challenge(self) -> bool:
        """Whether the card draws its challenge instead of computing it."""
        computed = (
            Scp03Option.PSEUDO_RANDOM_CHALLENGE
            if self.protocol == SCP03
            else Scp02Option.PSEUDO_RANDOM_CHALLENGE
        )
        return not self.i & computed

    @property
    def has_response_mac(self) -> bool:
        """Whether answers can carry a MAC."""
        return self.protocol == SCP03 and bool(self.i & Scp03Option.R_MAC)

    @property
    def has_response_encryption(self) -> bool:
        """Whether answers can be encrypted."""
        return self.protocol == SCP03 and bool(self.i & Scp03Option.R_ENCRYPTION)

    @property
    def has_counter_field(self) -> bool:
        """Whether the answer to INITIALIZE UPDATE shows the sequence counter."""
        return self.protocol == SCP02 or not self.has_random_challenge

    @property
    def key_type(self) -> KeyType:
        """The cipher of its keys."""
        return KeyType.AES if self.protocol == SCP03 else KeyType.DES3

    @property
    def host_challenge_size(self) -> int:
        """Size of the host's challenge, in bytes."""
        return LONG_CHALLENGE_SIZE if self.is_s16 else SHORT_CHALLENGE_SIZE

    @property
    def card_challenge_size(self) -> int:
        """Size of the card's challenge, in bytes."""
        return SCP02_CHALLENGE_SIZE if self.protocol == SCP02 else self.host_challenge_size

    @property
    def mac_size(self) -> int:
        """Size of a cryptogram and of a MAC on the wire, in bytes."""
        return self.host_challenge_size

    @property
    def counter_size(self) -> int:
        """Size of the sequence counter, in bytes."""
        return SCP02_COUNTER_SIZE if self.protocol == SCP02 else SCP03_COUNTER_SIZE

    def supports(self, level: SecurityLevel) -> bool:
        """Return whether a channel of this variant can have that level."""
        wanted = level & _RESPONSE_LEVEL
        offered = SecurityLevel(0)
        if self.has_response_mac:
            offered |= SecurityLevel.R_MAC
        if self.has_response_encryption:
            offered |= SecurityLevel.R_ENCRYPTION
        return level.is_defined and not wanted & ~offered


_SCP03_DEFINED: Final = int(
    Scp03Option.S16
    | Scp03Option.PSEUDO_RANDOM_CHALLENGE
    | Scp03Option.R_MAC
    | Scp03Option.R_ENCRYPTION
)


@dataclass(frozen=True, slots=True)
class InitiateAnswer:
    """The answer to INITIALIZE UPDATE (GPCS 2.3.1 §E.5.1, Amendment D 1.2 §7.1.1).

    Attributes:
        diversification_data: What the card's keys were derived from, 10 bytes.
        key_version: Version of the key set in use.
        variant: Protocol and i; SCP02 does not say its i, so the reader's idea of it.
        counter: Sequence counter, 2 bytes for SCP02; 3 or, with a random challenge, none for SCP03.
        card_challenge: 6 bytes for SCP02, else 8 or 16.
        card_cryptogram: 8 or 16 bytes.
    """

    diversification_data: bytes
    key_version: int
    variant: ScpVariant
    counter: bytes
    card_challenge: bytes
    card_cryptogram: bytes

    @classmethod
    def decode(cls, data: bytes, *, scp02_i: int = int(_SCP02_BASE)) -> "InitiateAnswer":
        """Return the answer in ``data``.

        Raises:
            DecodeError: The protocol is not one of ours, or the size is not that of its variant.
        """
        reader = ByteReader(data)
        diversification_data = reader.read_bytes(DIVERSIFICATION_SIZE)
        key_version = reader.read_uint8()
        offset = reader.offset
        protocol = reader.read_uint8()
        variant = ScpVariant(protocol, reader.read_uint8() if protocol == SCP03 else scp02_i)
        if not variant.is_supported:
            raise DecodeError(f"{variant} is not supported", offset=offset)
        counter = reader.read_bytes(variant.counter_size) if protocol == SCP02 else b""
        challenge = reader.read_bytes(variant.card_challenge_size)
        cryptogram = reader.read_bytes(variant.mac_size)
        if protocol == SCP03 and variant.has_counter_field:
            counter = reader.read_bytes(variant.counter_size)
        reader.finish()
        return cls(diversification_data, key_version, variant, counter, challenge, cryptogram)

    def encode(self) -> bytes:
        """Return the wire form."""
        head = self.diversification_data + bytes((self.key_version, self.variant.protocol))
        if self.variant.protocol == SCP02:
            return head + self.counter + self.card_challenge + self.card_cryptogram
        info = bytes((self.variant.i,))
        return head + info + self.card_challenge + self.card_cryptogram + self.counter


def secured_class(command: CommandApdu) -> int:
    """Return the class byte with its secure messaging bit (GPCS 2.3.1 §11.1.4).

    Raises:
        LocalProtocolError: The command is secured already, or for a channel above 3.
    """
    if command.cla & (SECURE_MESSAGING_BITS | FURTHER_CHANNEL):
        raise LocalProtocolError(f"class {command.cla:02X} cannot be protected")
    return command.cla | SECURE_MESSAGING


def plain_class(command: CommandApdu) -> int:
    """Return the class byte without its secure messaging bit (GPCS 2.3.1 §11.1.4).

    Raises:
        SecureChannelError: The command is not secured, or for a channel above 3.
    """
    if command.cla & (SECURE_MESSAGING_BITS | FURTHER_CHANNEL) != SECURE_MESSAGING:
        raise SecureChannelError("a command without secure messaging")
    return command.cla & ~SECURE_MESSAGING


def authenticated_header(command: CommandApdu) -> bytes:
    """Return the four header bytes as a MAC sees them: secured, of channel 0."""
    cla = (command.cla | SECURE_MESSAGING) & ~CHANNEL_BITS
    return bytes((cla, command.ins, command.p1, command.p2))


def is_protected(status: StatusWord) -> bool:
    """Return whether an answer of this status is: errors are not (Amendment D 1.2 §6.2.5)."""
    return status == StatusWord.OK or status.sw1 in WARNINGS


def pad(data: bytes, block_size: int) -> bytes:
    """Return the data, 80, then zeros up to a whole block (ISO/IEC 9797-1 method 2)."""
    marked = data + PADDING_MARK
    return marked + bytes(-len(marked) % block_size)


def unpad(data: bytes, block_size: int) -> bytes | None:
    """Return the data without padding; None when it is not padding of at most one block."""
    stripped = data.rstrip(b"\x00")
    if not stripped.endswith(PADDING_MARK) or len(data) - len(stripped) >= block_size:
        return None
    return stripped[:-1]
