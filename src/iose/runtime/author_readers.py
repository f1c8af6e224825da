# SPDX-License-Identifier: Apache-2.0
"""The published server's readers as ``[[readers]]`` of ours (iose-server.md §3, §8; racs.md §10).

Remote grids, SIM arrays, I2C devices and PC/SC keep the SEIDs that do not depend on an order. What
stood for readers on other machines is read in ``author_emulator``.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from iose.iso7816.aid import Aid
from iose.iso7816.atr import NO_NAME
from iose.protocols import sim_array
from iose.runtime.author_policy import Note, is_seid
from iose.runtime.config import PORT_LIMIT
from iose.runtime.elements.names import check_sen
from iose.runtime.errors import ConfigurationError
from iose.runtime.readers.rules import I2C_ADDRESSES, SLOTS, TRANSFERS
from iose.wire.errors import DecodeError

CONFIG: Final = "config.txt"
READERS: Final = "readersn.txt"
TYPES: Final = "type.txt"
DISABLING_AID_SIZE: Final = 2  # digits: takes the element off the service plane
NUMBER_DIGITS: Final = 9
SLOTS_LIMIT: Final = 200  # of the published server's readers
DEFAULT_SLOT: Final = "1010"
DEFAULT_AID: Final = "010203040500"
GRID_SERIAL: Final = "SN"  # before a slot's number, iose-server.md §8.2
I2C_SEIDS: Final = 1000  # plus the address
RESET_CHIP: Final = "/dev/gpiochip0"  # the header's, on the boards that server ran on
GRID_PKI: Final = "grid-pki"
PKI_FILES: Final = "user.pem, user.key and ca.pem"
SETTINGS: Final = frozenset(
    {
        *("is_external_grid", "grid_server", "grid_port", "grid_board", "grid_max_slots"),
        *("grid_first_slot", "gridhist", "gridaid", "i2c_max_devices", "i2c_first_adr"),
        *("i2c_reset_pins", "i2c_decoder", "i2c_decoder_pins", "i2c_E_pins", "i2c_size"),
    }
)
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
SECRET: Final = re.compile(r"[0-9A-Fa-f]{32}")  # what may be a key is never repeated

Settings = Mapping[str, list[str]]
Table = dict[str, object]


@dataclass(frozen=True, slots=True)
class AuthorReaders:
    """What the files say of readers.

    Attributes:
        tables: Tables ``readers`` of ours.
        elements: Settings of their elements, by SEID.
    """

    tables: list[Table] = field(default_factory=list)
    elements: dict[str, Table] = field(default_factory=dict)

    @property
    def seids(self) -> set[str]:
        """The SEIDs that elements of these readers have by their readers."""
        found: set[str] = set()
        for table in self.tables:
            names, slots, address = table.get("seids"), table.get("elements"), table.get("address")
            found.update(names.values() if isinstance(names, dict) else ())
            found.update(slots if isinstance(slots, list) else ())
            found.update([str(I2C_SEIDS + address)] if isinstance(address, int) else ())
        return found

    def name_element(self, name: str, seid: str) -> None:
        """Give the element of this name one more SEID."""
        for table in self.elements.values():
            if str(table.get("sen", "")).lower() == name.lower():
                break
        else:
            table = self.elements.setdefault(name, {})
        seids = table.setdefault("seids", [])
        if isinstance(seids, list) and seid not in seids:
            seids.append(seid)


def is_sen(text: str) -> bool:
    """Return whether a text may be the server name of an element."""
    try:
        check_sen(text)
    except ConfigurationError:
        return False
    return True


def read_readers(
    folder: Path, settings: Settings, lines: Callable[[str], list[list[str]]], note: Note
) -> AuthorReaders:
    """Return the readers that a directory speaks of.

    Args:
        folder: The directory, absolute; what is to be made by hand is looked for in it.
        settings: Of ``config.txt``.
        lines: Gives the words of each line of a file; none where there is no such file.
        note: Told what is not carried over.
    """
    found = AuthorReaders()
    serials = _serials(lines, note)
    _take_grid(found, settings, serials, str(folder / GRID_PKI), note)
    found.tables.extend(_i2c_tables(settings, note))
    found.tables.append(_pcsc_table(serials, note))
    return found


# -- the remote grid


def _take_grid(
    found: AuthorReaders, settings: Settings, serials: dict[str, str], pki: str, note: Note
) -> None:
    if settings.get("is_external_grid", ["yes"])[0] != "yes" or "grid_server" not in settings:
        return
    host, port = settings["grid_server"][0], number_of(settings.get("grid_port", [""])[0])
    if not is_host(host) or not 0 < port <= PORT_LIMIT:
        note(f"{CONFIG}: grid_server and grid_port are no address; the grid is left out")
        return
    count = number_of(settings.get("grid_max_slots", ["1"])[0])
    first = settings.get("grid_first_slot", [DEFAULT_SLOT])
    slots = _places(f"{CONFIG}: grid_first_slot", first, count, note)
    if not slots:
        return
    if port == sim_array.DEFAULT_PORT:  # any other speaks RACS
        slots = [slot for slot in slots if slot in SLOTS]
        names = {str(slot): str(slot) for slot in slots}
        found.tables.append(
            {"type": "sim-array", "address": f"{host}:{port}", "slots": slots, "seids": names}
        )
    else:
        found.tables.append(racs_table(f"{host}:{port}", [str(one) for one in slots], pki))
        note(
            f"the grid {host}:{port}: put {PKI_FILES} into the folder '{pki}', made of the client "
            "certificate that the published server had beside its own, and of what certified the "
            "grid, which that server did not verify; take 'legacy' out if it is a node of ours"
        )
    for slot in slots:  # its serial number is taken out: no PC/SC reader has it
        seid = serials.pop(f"{GRID_SERIAL}{slot}", None)
        if seid is not None:
            found.elements[str(slot)] = {"seids": [seid]}
    _name_slots(found, settings, slots, note)


def racs_table(address: str, seids: list[str], pki: str) -> Table:
    """Return the table of a published server's elements; ``pki`` is for us at that server."""
    return {"type": "racs", "address": address, "pki": pki, "legacy": True, "elements": seids}


def _name_slots(found: AuthorReaders, settings: Settings, slots: list[int], note: Note) -> None:
    aid = settings.get("gridaid", [DEFAULT_AID])[0]
    names = settings.get("gridhist", [])
    for place, slot in enumerate(slots):
        table = found.elements.setdefault(str(slot), {})
        name = names[place] if place < len(names) else ""
        if is_sen(name):
            table["sen"] = name
        elif name:
            table["is_enabled"] = False
            if name.lower() != NO_NAME:
                note(f"{CONFIG}: gridhist: {name} is no server name; slot {slot} is not served")
        if len(aid) == DISABLING_AID_SIZE:
            table["is_enabled"] = False
            continue
        try:
            table["aid"] = str(Aid.from_hex(aid))
        except DecodeError:
            table["is_enabled"] = False
            note(f"{CONFIG}: gridaid {aid} is no AID; the grid is taken off the service plane")


# -- I2C


def _i2c_tables(settings: Settings, note: Note) -> Iterator[Table]:
    count = number_of(settings.get("i2c_max_devices", ["0"])[0])
    if not count:
        return
    if "i2c_first_adr" not in settings:
        note(f"{CONFIG}: i2c_first_adr is missing; I2C devices are left out")
        return
    pins = settings.get("i2c_reset_pins", [])
    size = number_of(settings.get("i2c_size", ["0"])[0])
    addresses = _places(f"{CONFIG}: i2c_first_adr", settings["i2c_first_adr"], count, note)
    for place, address in enumerate(addresses):
        if address not in I2C_ADDRESSES:
            note(f"{CONFIG}: {address} is no address of an I2C device; it is left out")
            continue
        table: Table = {"type": "i2c", "address": address}
        if size in TRANSFERS:
            table["transfer_size"] = size
        pin = pins[place] if place < len(pins) else ""
        if number_of(pin):
            table |= {"reset_chip": RESET_CHIP, "reset_line": number_of(pin)}
            note(
                f"I2C reset pins were BCM numbers: look whether {RESET_CHIP} is the chip they are "
                "on (gpioinfo)"
            )
        else:
            why = "behind a decoder, which is not driven here" if pin else "not named"
            note(f"the reset pin of the I2C device {address} is {why}: it is reset by command")
        yield table


# -- PC/SC


def _serials(lines: Callable[[str], list[list[str]]], note: Note) -> dict[str, str]:
    """Return SEIDs by serial number of the reader, as far as the published server heeded them."""
    types = {" ".join(words).strip('"') for words in lines(TYPES)}
    found: dict[str, str] = {}
    twice: set[str] = set()
    for words in lines(READERS):
        if len(words) == 1 or not (is_seid(words[1]) and words[1].isascii()):
            note(f"{READERS}: a line is no serial number and SEID; it is left out")
            continue
        serial, seid = words[:2]
        kind = " ".join(words[2:]).strip('"')
        if not types or (kind and kind not in types):
            note(
                f"{READERS}: {seid} (reader {serial}) is left out, as the published server did "
                f"without its type in {TYPES}"
            )
            continue
        if kind:
            note(
                f"{READERS}: {seid} was for {kind} only; where one device has several readers "
                "with its serial number, give 'seids' the reader's name instead"
            )
        if found.get(serial, seid) != seid:
            twice.add(serial)
        elif seid in found.values() and serial not in found:
            note(f"{READERS}: {seid} stands there twice; reader {serial} does not get it")
        else:
            found[serial] = seid
    for serial in sorted(twice):
        del found[serial]
        note(
            f"{READERS}: reader {serial} has several SEIDs; give 'seids' of the pcsc table the "
            "readers' names"
        )
    return found


def _pcsc_table(serials: dict[str, str], note: Note) -> Table:
    note(
        "PC/SC readers need the extra iose[pcsc]; take the pcsc table out where there are none, "
        "and see 'iose reader list' for the SEIDs of those without one in 'seids'"
    )
    return {"type": "pcsc", **({"seids": serials} if serials else {})}


# -- words


def _places(what: str, words: list[str], count: int, note: Note) -> list[int]:
    """Return as many numbers as are counted: those written, or the ones after the first."""
    count = min(count, SLOTS_LIMIT)
    numbers: list[int] = []
    for word in words[:count]:
        if not (word.isascii() and word.isdecimal() and len(word) <= NUMBER_DIGITS):
            break  # a remark
        numbers.append(int(word))
    if len(numbers) == 1:
        return list(range(numbers[0], numbers[0] + count))
    if len(numbers) != count:
        note(f"{what} names {len(numbers)} where {count} are counted; the others are left out")
    return list(dict.fromkeys(numbers))


def number_of(text: str) -> int:
    """Return a number above 0; 0 where there is none."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS
    return int(text) if is_number else 0


def is_host(text: str) -> bool:
    """Return whether a text is a host's name or address, and no key."""
    return _HOST.fullmatch(text) is not None and not SECRET.search(text)


def is_address(text: str) -> bool:
    """Return whether a text is ``HOST:PORT``."""
    host, _, port = text.rpartition(":")
    return is_host(host) and 0 < number_of(port) <= PORT_LIMIT
