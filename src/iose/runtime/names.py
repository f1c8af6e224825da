# SPDX-License-Identifier: Apache-2.0
"""Names that administrators gave elements over RACS: kept in the data folder, used by the front.

A name given here replaces the one the element says itself, until it is taken back (racs.md §6).
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iose.iso7816.aid import Aid
from iose.runtime.elements.names import check_sen
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import write_private
from iose.wire.errors import DecodeError

NAMES_FILE: Final = "names.json"
NO_NAME: Final = "null"  # an element without a place on the service plane
DISABLED_DIGITS: Final = 2  # an AID so short stands for the same
FILE_LIMIT: Final = 4 * 1024 * 1024  # of 8,000 elements


@dataclass(frozen=True, slots=True)
class GivenName:
    """A name an element was given.

    Attributes:
        sen: The name; ``null`` for none.
        aid: Application to select, in hex; "" for the card's default; two digits disable it.
    """

    sen: str
    aid: str

    @property
    def is_served(self) -> bool:
        """Whether the service plane serves the element."""
        return self.sen != NO_NAME and len(self.aid) != DISABLED_DIGITS


@dataclass(frozen=True, slots=True)
class KnownElement:
    """What the register must know of an element.

    Attributes:
        seid: Its SEID.
        own: What it says itself, and the configuration adds; None when it has no name.
        others: More names under which the service plane serves it.
        is_fixed: The configuration names it, and no administrator gives it another name.
    """

    seid: str
    own: GivenName | None
    others: tuple[str, ...] = ()
    is_fixed: bool = False

    def name(self, given: Mapping[str, GivenName]) -> GivenName | None:
        """Return what it is called where administrators gave these names."""
        return self.own if self.is_fixed else given.get(self.seid, self.own)


def read_names(folder: Path) -> dict[str, GivenName]:
    """Return the names given in a data folder, by SEID.

    Raises:
        ConfigurationError: The file is damaged.
    """
    path = folder / NAMES_FILE
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(FILE_LIMIT))
        found = {
            str(seid): GivenName(str(given["sen"]), str(given["aid"]))
            for seid, given in content.items()
        }
        for one in found.values():
            _check(one.sen, one.aid)
    except FileNotFoundError:
        return {}
    except (
        *(OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError),
        ConfigurationError,
    ) as error:
        raise ConfigurationError(
            f"{path} cannot be read", hint="remove it: elements then have the names of their own"
        ) from error
    return found


class NameBook:
    """The node's ``NameRegister``.

    Args:
        folder: The data folder.
        known: Tells of every element.
        changed: Awaited after each change.
    """

    def __init__(
        self,
        folder: Path,
        known: Callable[[], Iterable[KnownElement]],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._known = known
        self._changed = changed
        self._given = read_names(folder)

    @property
    def given(self) -> Mapping[str, GivenName]:
        """Every name given, by SEID."""
        return self._given

    async def name(self, seid: str) -> tuple[str, str] | None:
        """Return an element's SEN, and its AID in hex ("" for default); None when it has none."""
        for one in self._known():
            if one.seid == seid:
                found = one.name(self._given)
                return None if found is None or found.sen == NO_NAME else (found.sen, found.aid)
        return None

    async def set_name(self, seid: str, sen: str | None, aid: str) -> None:
        """Give an element a name, or with None the one it says itself.

        Raises:
            ConfigurationError: It is no name, is another element's, or cannot be kept, or the
                configuration names the element; nothing changed.
        """
        if any(one.seid == seid and one.is_fixed for one in self._known()):
            raise ConfigurationError("the node's configuration names this element")
        given = dict(self._given)
        if sen is None:
            given.pop(seid, None)
        else:
            _check(sen, aid)
            given[seid] = GivenName(sen, aid.upper())
        self._check_unique(seid, given)
        content = {seid: {"sen": one.sen, "aid": one.aid} for seid, one in given.items()}
        try:
            write_private(self._folder / NAMES_FILE, json.dumps(content).encode())
        except OSError as error:
            raise ConfigurationError(f"the name cannot be kept: {error.strerror}") from error
        self._given = given
        await self._changed()

    def _check_unique(self, seid: str, given: Mapping[str, GivenName]) -> None:
        taken: set[str] = set()
        wanted: GivenName | None = None
        for one in self._known():
            name = one.name(given)
            if one.seid == seid:
                wanted = name
                continue
            names = [*one.others, *([name.sen] if name is not None and name.is_served else [])]
            taken.update(map(str.lower, names))
        if wanted is not None and wanted.is_served and wanted.sen.lower() in taken:
            # whose it is, a user who may not see that element need not know
            raise ConfigurationError(f"the name {wanted.sen!r} is taken")


def _check(sen: str, aid: str) -> None:
    if sen != NO_NAME:
        check_sen(sen)
    if aid and len(aid) != DISABLED_DIGITS:
        try:
            Aid.from_hex(aid)
        except DecodeError as error:
            raise ConfigurationError(str(error)) from error
    if len(aid) == DISABLED_DIGITS and not aid.isdigit():
        raise ConfigurationError(f"{aid!r} is no AID", hint="00 disables the element")
