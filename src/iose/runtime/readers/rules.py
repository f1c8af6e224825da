# SPDX-License-Identifier: Apache-2.0
"""What makes sense in tables ``[[readers]]`` and in what is said of single elements behind them.

``config`` calls it once the tables have been read; whether anything is plugged in is not looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iose.runtime.elements.names import check_sen
from iose.runtime.errors import ConfigurationError
from iose.runtime.readers.settings import (
    I2cSettings,
    PcscSettings,
    RacslReaderSettings,
    RacsReaderSettings,
    ReaderSettings,
    SerialSettings,
    SimArraySettings,
)
from iose.servers.racs.elements import SEID_LIMIT
from iose.transport.i2c.bank import SEID_BASE
from iose.transport.i2c.lines import SOCKET_PREFIXES

if TYPE_CHECKING:
    from iose.runtime.config import ElementSettings

NAME_LIMIT: Final = 63
CHUNK_LIMIT: Final = 65_535  # ISO/IEC 7816-3 §12.1.3: the extended Lc
RECORD_LIMIT: Final = 16_645  # RFC 8446 §5.2, the header included
WAIT_LIMIT_S: Final = 3600.0
I2C_ADDRESSES: Final = range(3, 120)  # the others are reserved, I2C-bus specification §3.1.12
LINE_LIMIT: Final = 1023  # more than any GPIO chip has
TRANSFERS: Final = range(8, 8193)  # the largest that i2c-dev takes
SLOTS: Final = range(1, 65_536)  # iose-server.md §8.3: 100 times the board plus the position
I2C_CHUNK_LIMIT: Final = 245  # iose-server.md §8.4: an APDU in one frame
SIM_CHUNK_LIMIT: Final = 255  # iose-server.md §8.3: arrays speak T=0
BAUDS: Final = range(300, 4_000_001)


def check_readers(readers: Sequence[ReaderSettings]) -> None:
    """Check every table.

    Raises:
        ConfigurationError: A value makes no sense, or two tables have one name.
    """
    names: dict[str, int] = {}
    wires: dict[tuple[str, ...], int] = {}
    for number, one in enumerate(readers, 1):
        where = f"readers[{number}]"
        _check_common(one, where)
        _check_type(one, where)
        other = names.setdefault(one.label, number)
        if other != number:
            raise ConfigurationError(
                f"readers[{other}] and {where} are both called {one.label!r}",
                hint="give one of them another 'name', or take it out if it is there twice",
            )
        for what in _wires(one):
            other = wires.setdefault(what, number)
            if other != number:
                raise ConfigurationError(
                    f"readers[{other}] and {where} both use {' '.join(what)}",
                    hint="a session of one would disturb those of the other",
                )


def check_overrides(
    elements: Mapping[str, "ElementSettings"], readers: Sequence[ReaderSettings]
) -> None:
    """Check what tables ``element`` say of elements behind readers.

    Raises:
        ConfigurationError: A value makes no sense, or not for the reader that has this element,
            where the tables tell which one that is.
    """
    homes = {name.lower(): one for one in readers for name in _names(one)}
    for name, element in elements.items():
        where = f"element.{name}"
        _check_sen(f"{where}.sen", element.sen)
        _check_limits(where, element.max_record, element.chunk_size)
        home = homes.get(name.lower())
        if home is not None:
            _check_chunk(where, home, element.chunk_size)


def _check_common(one: ReaderSettings, where: str) -> None:
    if len(one.name) > NAME_LIMIT or not one.name.isprintable():
        _refuse(f"{where}.name", f"has up to {NAME_LIMIT} printable characters")
    _check_wait(f"{where}.apdu_s", one.apdu_s)
    _check_limits(where, one.max_record, one.chunk_size)
    _check_chunk(where, one, one.chunk_size)
    renamed: dict[str, str] = {}
    for key, seid in one.seids.items():
        _check_seid(f"{where}.seids", seid)
        if seid in renamed:
            _refuse(f"{where}.seids", f"calls both {renamed[seid]!r} and {key!r} {seid!r}")
        renamed[seid] = key


def _check_type(one: ReaderSettings, where: str) -> None:
    match one:
        case PcscSettings():
            _check_globs(f"{where}.readers", one.readers)
        case RacsReaderSettings():
            _check_address(f"{where}.address", one.address)
            _check_globs(f"{where}.elements", one.elements)
            for glob in one.elements:
                _check_seid(f"{where}.elements", glob)
            _check_wait(f"{where}.poll_s", one.poll_s)
        case RacslReaderSettings():
            _check_address(f"{where}.address", one.address)
            _check_given(f"{where}.sen", one.sen)
            _check_given(f"{where}.identity", one.identity)
            _check_given(f"{where}.psk_file", one.psk_file)
        case SimArraySettings():
            _check_address(f"{where}.address", one.address)
            _check_wait(f"{where}.poll_s", one.poll_s)
            for slot in one.slots:
                _check_range(f"{where}.slots", slot, SLOTS)
            if len(set(one.slots)) != len(one.slots):
                _refuse(f"{where}.slots", "names a slot twice")
        case I2cSettings():
            _check_i2c(one, where)
        case SerialSettings():
            _check_given(f"{where}.device", one.device)
            _check_range(f"{where}.baud", one.baud, BAUDS)
            _check_sen(f"{where}.sen", one.sen)
        case _:
            pass  # nothing of its own


def _check_i2c(one: I2cSettings, where: str) -> None:
    _check_given(f"{where}.bus", one.bus)
    _check_range(f"{where}.address", one.address, I2C_ADDRESSES)
    _check_range(f"{where}.reset_line", one.reset_line, range(LINE_LIMIT + 1))
    _check_range(f"{where}.transfer_size", one.transfer_size, TRANSFERS)
    _check_sen(f"{where}.sen", one.sen)


def _wires(one: ReaderSettings) -> Iterator[tuple[str, ...]]:
    """Yield what a device has for itself: its address on a bus, its reset line."""
    if isinstance(one, I2cSettings):
        is_file = not one.bus.startswith(SOCKET_PREFIXES)
        bus = _resolved(one.bus) if is_file else one.bus
        yield "address", str(one.address), "of", bus
        if one.reset_chip:  # a program numbers its lines itself
            chip = _resolved(one.reset_chip) if is_file else bus
            yield "line", str(one.reset_line), "of", chip


def _resolved(path: str) -> str:
    return str(Path(path).resolve())


def _names(one: ReaderSettings) -> Iterator[str]:
    """Yield SEIDs and SENs of elements that can only be behind this table's readers."""
    yield from one.seids.values()
    match one:
        case I2cSettings():
            yield str(SEID_BASE + one.address)
            yield one.sen
        case SimArraySettings():
            yield from (f"sim-{slot}" for slot in one.slots)
        case _:
            pass  # what is behind it is seen when it is there


def _check_address(path: str, address: str) -> None:
    from iose.runtime.config import parse_address  # noqa: PLC0415  # it imports us

    _check_given(path, address)
    try:
        _, port = parse_address(address)
    except ConfigurationError:
        port = 0
    if port == 0:
        _refuse(path, f"is no address: {address!r}", "write HOST:PORT, as in 192.0.2.1:7777")


def _check_given(path: str, text: str) -> None:
    if not text:
        raise ConfigurationError(f"the setting {path!r} is missing")


def _check_globs(path: str, globs: Sequence[str]) -> None:
    if not globs or "" in globs:
        _refuse(path, "matches nothing", 'write ["*"] for all')


def _check_limits(where: str, max_record: int | None, chunk_size: int | None) -> None:
    if max_record is not None:
        _check_range(f"{where}.max_record", max_record, range(RECORD_LIMIT + 1))
    if chunk_size is not None:
        _check_range(f"{where}.chunk_size", chunk_size, range(1, CHUNK_LIMIT + 1))


def _check_chunk(where: str, one: ReaderSettings, chunk_size: int | None) -> None:
    """Check a size against what the wire carries, where that is less than what cards take."""
    match one:
        case I2cSettings(flavour="iose"):
            limit, reason = I2C_CHUNK_LIMIT, "flavour 'iose'"
        case SimArraySettings():
            limit, reason = SIM_CHUNK_LIMIT, "a SIM array, which speaks T=0"
        case _:
            return
    if (chunk_size or 0) > limit:
        _refuse(f"{where}.chunk_size", f"is at most {limit} for {reason}")


def _check_range(path: str, value: int, allowed: range) -> None:
    if value not in allowed:
        _refuse(path, f"must be between {allowed[0]} and {allowed[-1]}")


def _check_wait(path: str, seconds: float) -> None:
    if not 0 < seconds < inf or seconds > WAIT_LIMIT_S:  # neither is "nan", which TOML knows
        _refuse(path, f"must be above 0, and at most {WAIT_LIMIT_S:.0f}")


def _check_sen(path: str, sen: str) -> None:
    try:
        if sen:
            check_sen(sen)
    except ConfigurationError as error:
        raise ConfigurationError(f"the setting {path!r}: {error}", hint=error.hint) from None


def _check_seid(path: str, seid: str) -> None:
    if not (1 <= len(seid) <= SEID_LIMIT and all("!" <= letter <= "~" for letter in seid)):
        _refuse(
            path,
            f"holds no SEID: {seid!r}",
            f"use up to {SEID_LIMIT} printable ASCII characters without spaces",
        )


def _refuse(path: str, problem: str, hint: str | None = None) -> None:
    raise ConfigurationError(f"the setting {path!r} {problem}", hint=hint)
