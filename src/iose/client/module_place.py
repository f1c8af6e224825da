# SPDX-License-Identifier: Apache-2.0
"""A module behind a reader of this machine: where it is, and how it is asked (tls-im.md §3).

What a person types is one URI: ``pcsc:``, ``i2c:``, ``serial:`` or ``sim-array:``. It holds all
that is needed to reach the module, but its PIN. Pure: ``module_reader`` opens what is written here.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NoReturn
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from iose.client.errors import ElementUriError
from iose.iso7816.aid import Aid
from iose.protocols import sim_array
from iose.transport.addresses import format_address
from iose.wire.errors import DecodeError

DEFAULT_AID: Final = Aid(b"\x01\x02\x03\x04\x08\x00")
SE050_AID: Final = Aid(bytes.fromhex("A0000003965453000000010300000000"))  # tls-im.md §4.1
SECRET_SIZE: Final = 32  # of what a module computes
USER_PIN_SIZE: Final = 4
ADMIN_PIN_SIZE: Final = 8
PLACE_LIMIT: Final = 255
READER_HINT: Final = (
    "a module behind a reader looks like pcsc:READER, i2c:/dev/i2c-1?address=72,"
    " serial:/dev/ttyACM0 or sim-array://host:port/701"
)
PIN_HINT: Final = "4 are the user's, 8 the administrator's"
_NUMBER: Final = re.compile(r"[0-9]{1,7}|0x[0-9A-Fa-f]{1,6}")
_SLOT: Final = re.compile(r"/[0-9]{1,5}")
_LINE_PIN: Final = re.compile(rb"[!-~]{0,64}")  # what it means is the board's affair


class ReaderKind(StrEnum):
    """What carries commands to the module; also the scheme of its URI."""

    PCSC = "pcsc"
    I2C = "i2c"
    SERIAL = "serial"
    SIM_ARRAY = "sim-array"


class ModuleForm(StrEnum):
    """How the module is asked.

    APPLET by the APDUs of an applet (tls-im.md §2), SE050 by the objects of that chip (§4.1), TEXT
    by lines of text that a board understands itself (§5).
    """

    APPLET = "applet"
    SE050 = "se050"
    TEXT = "text"


_NUMBERS: Final = {
    ReaderKind.PCSC: {},
    ReaderKind.I2C: {
        "address": range(3, 120),  # the others are reserved, I2C-bus specification §3.1.12
        "reset_line": range(1024),
        "transfer_size": range(8, 8193),
    },
    ReaderKind.SERIAL: {"baud": range(300, 4_000_001)},
    ReaderKind.SIM_ARRAY: {},
}
_WORDS: Final = {ReaderKind.I2C: ("flavour", "reset_chip")}
I2C_FRAMES: Final = "iose"  # APDUs in PCB C1, iose-server.md §8.4
I2C_T1: Final = "t1"  # APDUs in I-blocks, tls-im.md §4.1


def check_pin(pin: bytes) -> None:
    """Check the size of an applet's PIN.

    Raises:
        ElementUriError: It has not 4 or 8 bytes.
    """
    if len(pin) not in (USER_PIN_SIZE, ADMIN_PIN_SIZE):
        raise ElementUriError(
            f"expected a PIN of {USER_PIN_SIZE} or {ADMIN_PIN_SIZE} characters", hint=PIN_HINT
        )


@dataclass(frozen=True, slots=True)
class ReaderModule:
    """A module behind a reader that this program opens itself, for the time of a handshake.

    Attributes:
        kind: What carries the commands.
        place: SEID or another key of a PC/SC reader, or part of its name; a device;
            ``HOST:PORT/SLOT`` of a SIM array.
        numbers: Settings of the bus or line by name, sorted.
        reset_chip: GPIO chip of an I2C device's reset line; "" without one.
        flavour: How an I2C device carries APDUs; "" for what goes with the form.
        form: How the module is asked.
        aid: The applet's instance.
        pin: As of ``RacsModule``; b"" for a board that takes none, and unused by the SE050's form.
    """

    kind: ReaderKind
    place: str
    numbers: tuple[tuple[str, int], ...] = ()
    reset_chip: str = ""
    flavour: str = ""
    form: ModuleForm = ModuleForm.APPLET
    aid: Aid = DEFAULT_AID
    pin: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ElementUriError: One of them is not what it should be.
        """
        if not 1 <= len(self.place) <= PLACE_LIMIT or not self.place.isprintable():
            _refuse("names no reader")
        for name, value in self.numbers:
            allowed = _NUMBERS[self.kind].get(name, range(0))
            if value not in allowed:
                _refuse(f"has a wrong {name}")
        if self.kind is ReaderKind.I2C and self.number("address") is None:
            _refuse("has no address")
        if self.flavour not in ("", I2C_FRAMES, I2C_T1):
            _refuse(f"has a flavour that is none of {I2C_FRAMES}, {I2C_T1}")
        if self.form is ModuleForm.TEXT and self.kind is not ReaderKind.SERIAL:
            _refuse("asks for lines of text, which only a serial line carries")
        self._check_pin()

    @classmethod
    def decode(cls, text: str, *, pin: bytes | None = None) -> "ReaderModule":
        """Return the module behind a reader that a URI names.

        Raises:
            ElementUriError: It is malformed, or says something that no module has.
        """
        try:
            parts = urlsplit(text)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            _refuse("is malformed")
        if not is_reader_uri(text):
            _refuse("names no kind of reader")
        kind, said = ReaderKind(parts.scheme), dict(pairs)
        if len(said) != len(pairs) or parts.fragment or "@" in parts.netloc:
            _refuse("says something twice, or what we do not know")
        place = _array_slot(parts) if kind is ReaderKind.SIM_ARRAY else _local(parts)
        form = _form(said.pop("form", ModuleForm.APPLET))
        aid = _aid(said.pop("aid", None), form)
        words = {name: said.pop(name, "") for name in _WORDS.get(kind, ())}
        numbers = tuple(sorted((name, _number(kind, name, value)) for name, value in said.items()))
        reset_chip, flavour = words.get("reset_chip", ""), words.get("flavour", "")
        return cls(kind, place, numbers, reset_chip, flavour, form, aid, pin)

    def __str__(self) -> str:
        """Return the URI, without the PIN."""
        parts = [f"{name}={value}" for name, value in self.numbers]
        if self.reset_chip:
            parts.append(f"reset_chip={quote(self.reset_chip)}")
        if self.flavour:
            parts.append(f"flavour={self.flavour}")
        if self.form is ModuleForm.APPLET:
            parts.append(f"aid={self.aid}")
        else:
            parts.append(f"form={self.form}")
        slashes = "//" if self.kind is ReaderKind.SIM_ARRAY else ""
        return f"{self.kind}:{slashes}{quote(self.place, safe='/:[]')}?{'&'.join(parts)}"

    @property
    def needs_pin(self) -> bool:
        """Whether a PIN goes with it, which is kept until it is refused."""
        return self.form is not ModuleForm.SE050

    def number(self, name: str) -> int | None:
        """Return a setting of the bus or line, None when it is not said."""
        return dict(self.numbers).get(name)

    def _check_pin(self) -> None:
        if self.pin is None:
            return
        match self.form:
            case ModuleForm.APPLET:
                check_pin(self.pin)
            case ModuleForm.TEXT:
                if not _LINE_PIN.fullmatch(self.pin):
                    raise ElementUriError("a PIN is one word of ASCII", hint=None)
            case ModuleForm.SE050:
                raise ElementUriError("a module of this form has no PIN", hint=None)


def is_reader_uri(text: str) -> bool:
    """Return whether a text begins with the scheme of a reader."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme.lower() in set(ReaderKind)


def _array_slot(parts: SplitResult) -> str:
    try:
        port = sim_array.DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not parts.hostname or not port or not _SLOT.fullmatch(parts.path):
        _refuse("names no slot of an array")
    return format_address(parts.hostname, port) + parts.path


def _local(parts: SplitResult) -> str:
    if parts.netloc:
        _refuse("names a host, where a reader of this machine is meant")
    return unquote(parts.path)


def _form(text: str) -> ModuleForm:
    try:
        return ModuleForm(text)
    except ValueError:
        _refuse(f"has a form that is none of {', '.join(ModuleForm)}")


def _aid(text: str | None, form: ModuleForm) -> Aid:
    if text is None:
        return DEFAULT_AID
    if form is not ModuleForm.APPLET:
        _refuse("has an AID, which this form does not use")
    try:
        return Aid.from_hex(text)
    except DecodeError as fault:
        raise ElementUriError(str(fault), hint=READER_HINT) from None


def _number(kind: ReaderKind, name: str, text: str) -> int:
    if name not in _NUMBERS[kind] or not _NUMBER.fullmatch(text):
        _refuse(f"says {name!r}, which {kind} does not have, or not so"[:PLACE_LIMIT])
    return int(text, 16 if text.startswith("0x") else 10)


def _refuse(problem: str) -> NoReturn:
    raise ElementUriError(f"the URI of a module {problem}", hint=READER_HINT) from None
