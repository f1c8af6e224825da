# SPDX-License-Identifier: Apache-2.0
"""Tables ``[[readers]]`` of a configuration: each one way to real elements.

``type`` says which of the dataclasses below a table is read into; ``banks`` makes a bank of it.
Nothing here is a secret: keys and certificates are named by their files.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

APDU_S: Final = 30.0  # a key pair made on a slow chip


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What every type of reader has.

    Attributes:
        type: What kind of reader it is.
        name: What the operator calls it; "" for a name made of type and address.
        seids: SEIDs for slots, by name, serial number or another key of the slot.
        apdu_s: Longest wait for the answer to one APDU, in seconds.
        max_record: Largest TLS record its elements take; 0 for no limit, None to find it out.
        chunk_size: Largest command data, 1 to 65 535 bytes; above 255, commands are extended.
        warm_reset: Whether elements are reset with their power on; None for what the reader can do.
    """

    type: str
    name: str = ""
    seids: dict[str, str] = field(default_factory=dict)
    apdu_s: float = APDU_S
    max_record: int | None = None
    chunk_size: int | None = None
    warm_reset: bool | None = None

    @property
    def where(self) -> str:
        """Where its elements are, as far as that tells it from others of its type."""
        return ""

    @property
    def label(self) -> str:
        """What it is called: by the operator, else by type and address."""
        return self.name or ":".join(filter(None, (self.type, self.where)))


@dataclass(frozen=True, slots=True)
class PcscSettings(ReaderSettings):
    """PC/SC readers of this machine.

    Attributes:
        readers: Globs over the names of readers; all by default.
    """

    readers: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class RacsReaderSettings(ReaderSettings):
    """Elements of another node.

    Attributes:
        address: The node's administration plane, ``HOST:PORT``.
        pki: Folder with ``user.pem``, ``user.key`` and ``ca.pem``, relative to the data folder;
            "" for that of the data folder's own authority.
        server_name: Name its certificate must hold; "" for any node's certificate of that CA.
        legacy: It is the published server: TLS 1.2, static RSA.
        elements: Globs over its SEIDs; all that it lists by default.
        poll_s: Time between looks at its list, in seconds.
    """

    address: str = ""
    pki: str = ""
    server_name: str = ""
    legacy: bool = False
    elements: tuple[str, ...] = ("*",)
    poll_s: float = 5.0

    @property
    def where(self) -> str:
        """The address."""
        return self.address


@dataclass(frozen=True, slots=True)
class RacslReaderSettings(ReaderSettings):
    """One element on a RACS Lite board.

    Attributes:
        address: The board, ``HOST:PORT``.
        sen: TLS server name of the board's front.
        identity: PSK identity.
        psk_file: File of mode 0600 with the key, 64 hex digits; relative to the data folder.
        suite: ``gcm`` or ``ccm``.
    """

    address: str = ""
    sen: str = ""
    identity: str = "Client_identity"
    psk_file: str = ""
    suite: Literal["gcm", "ccm"] = "gcm"

    @property
    def where(self) -> str:
        """Address and element."""
        return f"{self.address}/{self.sen}"


@dataclass(frozen=True, slots=True)
class SimArraySettings(ReaderSettings):
    """A SIM array over TCP.

    Attributes:
        address: The array, ``HOST:PORT``; its own port is 2310.
        slots: Slot numbers, 100 times the board plus the position; all with a card by default.
        poll_s: Time between looks at its contents, in seconds.
    """

    address: str = ""
    slots: tuple[int, ...] = ()
    poll_s: float = 5.0

    @property
    def where(self) -> str:
        """The address."""
        return self.address


@dataclass(frozen=True, slots=True)
class I2cSettings(ReaderSettings):
    """One device on an I2C bus.

    Attributes:
        bus: Device file, as ``/dev/i2c-1``.
        address: 7-bit address, 3 to 119.
        flavour: ``iose`` carries APDUs in PCB C1; ``t1`` in I-blocks, as NXP parts do.
        reset_chip: GPIO chip of the reset line, as ``/dev/gpiochip0``; "" for no reset line.
        reset_line: Number of the reset line.
        transfer_size: Largest transfer of the host's adapter, in bytes.
        sen: The element's name, where it does not tell one.
    """

    bus: str = "/dev/i2c-1"
    address: int = 0
    flavour: Literal["iose", "t1"] = "iose"
    reset_chip: str = ""
    reset_line: int = 0
    transfer_size: int = 128
    sen: str = ""

    @property
    def where(self) -> str:
        """Bus and address."""
        return f"{self.bus}:{self.address}"


@dataclass(frozen=True, slots=True)
class SerialSettings(ReaderSettings):
    """An element behind a serial line that takes APDUs as lines of text.

    Attributes:
        device: Device file, as ``/dev/ttyACM0``.
        baud: Speed.
        sen: The element's name, where it does not tell one.
    """

    device: str = ""
    baud: int = 19_200
    sen: str = ""

    @property
    def where(self) -> str:
        """The device."""
        return self.device


READER_TYPES: Final = {
    "pcsc": PcscSettings,
    "racs": RacsReaderSettings,
    "racsl": RacslReaderSettings,
    "sim-array": SimArraySettings,
    "i2c": I2cSettings,
    "serial": SerialSettings,
}
