# SPDX-License-Identifier: Apache-2.0
"""What is on a card: its domain, applications and load files, by GET STATUS (GPCS 2.3.1 §11.4).

Cards that know the older plain answers only are read too.
"""

from dataclasses import dataclass
from typing import Final

from iose.client.card.channel import CardChannel, refusal
from iose.client.card.errors import CardManagementError
from iose.globalplatform.commands import GetStatus, Ins, StatusScope
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.life_cycle import (
    LOCK_BIT,
    ApplicationLifeCycle,
    CardLifeCycle,
    Privilege,
)
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.reader import ByteReader

ANSWER_LIMIT: Final = 64  # continued answers: some thousand entries, on a card that never ends
NUMBER_SIZE: Final = 2  # bytes behind the AID of a module, in the AIDs of further instances
NUMBER_LIMIT: Final = 1 << 8 * NUMBER_SIZE
NOTHING: Final = frozenset({StatusWord.REFERENCED_DATA_NOT_FOUND, StatusWord.NOT_FOUND})
NO_OBJECTS: Final = frozenset({StatusWord.WRONG_P1P2, StatusWord.WRONG_DATA})


@dataclass(frozen=True, slots=True)
class CardInventory:
    """Everything a card holds.

    Attributes:
        issuer_domain: AID of the issuer security domain.
        card_state: Life cycle of the card; None when it did not say.
        applications: Applications and other security domains.
        load_files: Load files with their modules.
    """

    issuer_domain: Aid
    card_state: int | None
    applications: tuple[StatusEntry, ...] = ()
    load_files: tuple[StatusEntry, ...] = ()

    def application(self, aid: Aid) -> StatusEntry | None:
        """Return the application of an AID, or None."""
        return next((entry for entry in self.applications if entry.aid == aid), None)

    def load_file(self, aid: Aid) -> StatusEntry | None:
        """Return the load file of an AID, or None."""
        return next((entry for entry in self.load_files if entry.aid == aid), None)

    def free_aid(self, module: Aid) -> Aid:
        """Return the AID of a new instance: the module's own, else the first free with a number.

        Raises:
            CardManagementError: None is free.
        """
        taken = {entry.aid for entry in (*self.applications, *self.load_files)}
        taken.add(self.issuer_domain)
        if module not in taken:
            return module
        for number in range(1, NUMBER_LIMIT):
            aid = Aid(module.value + number.to_bytes(NUMBER_SIZE, "big"))
            if aid not in taken:
                return aid
        raise CardManagementError(f"no AID that begins with {module} is free on the card")

    @property
    def default_selected(self) -> StatusEntry | None:
        """The application that a reset selects, or None."""
        return next(
            (
                entry
                for entry in self.applications
                if entry.privileges is not None and entry.privileges & Privilege.DEFAULT_SELECTED
            ),
            None,
        )


def state_words(state: int, *, is_card: bool = False) -> str:
    """Return a life cycle state in words, for example ``selectable``."""
    known = CardLifeCycle(state) if is_card else ApplicationLifeCycle(state)
    name = known.name.lower().replace("_", " ")
    if not is_card and state & LOCK_BIT and name.startswith("state"):
        return "locked"
    return name


async def read_inventory(
    channel: CardChannel, issuer_domain: Aid, *, is_named: bool = True
) -> CardInventory:
    """Return what is on the card.

    Args:
        channel: An open secure channel.
        issuer_domain: AID of its security domain.
        is_named: Whether the user said so. An AID that was found was told in clear, by whom nobody
            knows: what the list says is believed instead.

    Raises:
        StatusWordError: The card refused.
        DecodeError: It answered something else.
        CardManagementError: Its answer does not end.
        TransportError: No answer.
        SecureChannelError: The answer is not the card's.
    """
    domains = await _entries(channel, StatusScope.ISSUER_DOMAIN)
    applications = await _entries(channel, StatusScope.APPLICATIONS)
    files = await _entries(channel, StatusScope.LOAD_FILES_AND_MODULES)
    if not files:  # cards may know the one scope and not the other
        files = await _entries(channel, StatusScope.LOAD_FILES)
    listed = next(iter(domains), None)
    if listed is None:
        return CardInventory(issuer_domain, None, applications, files)
    aid = issuer_domain if is_named else listed.aid
    return CardInventory(aid, listed.state, applications, files)


async def _entries(channel: CardChannel, scope: StatusScope) -> tuple[StatusEntry, ...]:
    data, status = await _collect(channel, scope, has_objects=True)
    if status in NO_OBJECTS:
        data, status = await _collect(channel, scope, has_objects=False)
        if status in NO_OBJECTS and scope is StatusScope.LOAD_FILES_AND_MODULES:
            return ()  # the card does not know this scope
        return _checked(decode_plain(data, scope), status)
    return _checked(StatusEntry.decode_all(data), status)


def _checked(entries: tuple[StatusEntry, ...], status: StatusWord) -> tuple[StatusEntry, ...]:
    """Return the entries.

    Raises:
        StatusWordError: The card refused to show them.
    """
    if status != StatusWord.OK and status not in NOTHING:
        raise StatusWordError(status, refusal(status, Ins.GET_STATUS, "listing the card"))
    return entries


async def _collect(
    channel: CardChannel, scope: StatusScope, *, has_objects: bool
) -> tuple[bytes, StatusWord]:
    """Return the whole answer, continued as long as the card says that more follows.

    Raises:
        CardManagementError: It does not end.
    """
    data = b""
    for number in range(ANSWER_LIMIT):
        command = GetStatus(scope, is_next=number > 0, has_objects=has_objects).to_command()
        response = await channel.exchange(command)
        data += response.data
        if response.status != StatusWord.MORE_DATA_AVAILABLE:
            return data, response.status
    raise CardManagementError("the card's list of its contents does not end")


def decode_plain(data: bytes, scope: StatusScope) -> tuple[StatusEntry, ...]:
    """Return the entries of an older card's answer (GPCS 2.1.1 §9.4.3).

    Raises:
        DecodeError: It is malformed.
    """
    reader = ByteReader(data)
    entries = []
    while reader.remaining:
        aid = Aid(reader.read_opaque(1))
        state = reader.read_uint8()
        privileges = Privilege.decode(reader.read_bytes(1))
        modules: tuple[Aid, ...] = ()
        if scope is StatusScope.LOAD_FILES_AND_MODULES:
            modules = tuple(Aid(reader.read_opaque(1)) for _ in range(reader.read_uint8()))
        is_file = scope in {StatusScope.LOAD_FILES, StatusScope.LOAD_FILES_AND_MODULES}
        entries.append(StatusEntry(aid, state, None if is_file else privileges, modules=modules))
    return tuple(entries)
