# SPDX-License-Identifier: Apache-2.0
"""The file of the published PC/SC emulator as tables of ours (iose-server.md §8.5).

It stood for readers on other machines: elements of servers, boards, serial lines. Keys stay where
they are: none is taken into the result, and nothing that may be one is told.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Final

from iose.runtime.author_policy import Note, is_seid
from iose.runtime.author_readers import (
    PKI_FILES,
    SECRET,
    AuthorReaders,
    Table,
    is_address,
    is_host,
    is_sen,
    number_of,
    racs_table,
)
from iose.runtime.config import PORT_LIMIT

EMULATOR: Final = "cardconfig.txt"
EMULATOR_PKI: Final = "racs-pki"
SUITES: Final = {"aesgcm": "gcm", "aesccm": "ccm"}
IDENTITY: Final = "identity"
DEFAULT_IDENTITY: Final = "Client_identity"
_COM: Final = re.compile(r"COM([0-9]{1,3})/(.+)", re.IGNORECASE)


def take_emulated(found: AuthorReaders, folder: Path, lines: list[list[str]], note: Note) -> None:
    """Add what the emulator's file says to the readers found.

    Args:
        found: The readers.
        folder: The directory, absolute; what is to be made by hand is looked for in it.
        lines: The words of each line.
        note: Told what is not carried over.
    """
    _Emulator(found, folder, note).take(lines)


class _Emulator:
    def __init__(self, found: AuthorReaders, folder: Path, note: Note) -> None:
        self._found = found
        self._folder = folder
        self._note = note
        self._remote: dict[str, list[str]] = {}

    def take(self, lines: list[list[str]]) -> None:
        has_files = False
        for key, *words in lines:
            if key in {"racs", "seid"}:
                self._take_place(words[0] if words else "")
            elif key in {"psk", "cmd"}:
                self._take_board(words)
            elif key in {"ca", "cert", "key", "password"}:
                has_files = True
            elif key not in {"stimeout", "debug"}:
                self._note(f"{EMULATOR}: a line begins with no word that is known; it is left out")
        pki = str(self._folder / EMULATOR_PKI)
        for address, seids in self._remote.items():
            self._add(racs_table(address, list(dict.fromkeys(seids)), pki))
        if self._remote:
            source = f"the files that ca, cert and key name in {EMULATOR}" if has_files else "them"
            self._note(
                f"{EMULATOR}: put {PKI_FILES} into the folder '{pki}', made of {source}; take "
                "'legacy' out where a node of ours answers"
            )

    def _add(self, table: Table) -> None:
        keys = ["type", "device"] if "device" in table else ["type", "address"]
        if table["type"] == "racsl":  # a board may hold several
            keys.append("sen")
        for other in self._found.tables:
            if all(other.get(key) == table[key] for key in keys):
                self._note(
                    f"{EMULATOR}: {table['type']} {table[keys[1]]} is there twice; what the "
                    "second says is left out"
                )
                return
        self._found.tables.append(table)

    def _take_place(self, place: str) -> None:
        serial = _COM.fullmatch(place)
        address, slash, seid = place.partition("/")
        if serial is not None:
            self._take_line(int(serial[1]), serial[2])
        elif slash and is_address(address) and is_seid(seid):
            self._remote.setdefault(address, []).append(seid)
            if is_sen(seid):  # what the emulator made the ATR of
                self._found.elements.setdefault(seid, {})["sen"] = seid
        else:
            self._note(
                f"{EMULATOR}: a line is neither HOST:PORT/SEID nor COMn/NAME; it is left out"
            )

    def _take_line(self, number: int, sen: str) -> None:
        device = f"/dev/ttyS{max(number - 1, 0)}"
        self._add({"type": "serial", "device": device, **({"sen": sen} if is_sen(sen) else {})})
        self._note(f"{EMULATOR}: COM{number} became {device}: look whether it is (ls /dev/tty*)")

    def _take_board(self, words: list[str]) -> None:
        pairs = list(pairwise(words))
        options, more = dict(pairs), [value for name, value in pairs if name == "-H"]
        host, port, sen = (options.get(name, "") for name in ("-h", "-p", "-S"))
        identity = next(
            (one.removeprefix(IDENTITY) for one in more if one.startswith(IDENTITY)),
            DEFAULT_IDENTITY,
        )
        suite = SUITES.get(options.get("-l", "aesgcm"))
        is_soft = all(one == "noim" or one.startswith(("psk", IDENTITY)) for one in more)
        is_address = is_host(host) and 0 < number_of(port) <= PORT_LIMIT
        is_sound = is_address and is_sen(sen) and not SECRET.search(identity)
        if not is_sound or suite is None or not is_soft:
            self._note(
                f"{EMULATOR}: a line for a board has no -h, -p or -S that serves, another suite, "
                "or an identity module; it is left out"
            )
            return
        file = str(self._folder / f"racsl-{sen}.psk")
        self._add(
            {
                "type": "racsl",
                "address": f"{host}:{port}",
                "sen": sen,
                "identity": identity,
                "psk_file": file,
                "suite": suite,
            }
        )
        self._note(
            f"{EMULATOR}: write the key of {sen} into the file '{file}', in hex, mode 0600, and "
            "take it out of the old file"
        )
