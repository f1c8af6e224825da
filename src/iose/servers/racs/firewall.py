# SPDX-License-Identifier: Apache-2.0
"""Which APDUs may reach an element, judged by what is selected in it (racs.md §7.1, §9.2 to §9.4).

One ``Firewall`` per held element. It sees headers, and the AID of a SELECT in clear. Whoever may
select anything (``*``) may also do what cannot be followed from outside: partial names, file
identifiers, SELECT under secure messaging. Everybody else may not.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.instructions import INS_MANAGE_CHANNEL, INS_SELECT, P1_BY_AID
from iose.iso7816.status import StatusWord
from iose.servers.racs.policy import AidClass, Grant, Right, Selection
from iose.wire.errors import DecodeError

# ISO/IEC 7816-4 §11.6: VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, both codings of each
INS_WITH_PIN: Final = frozenset({0x20, 0x21, 0x24, 0x25, 0x2C, 0x2D})
# A secure channel is open when these two went well (GPCS 2.3.1 §E.5): to applets, 82 alone and
# other ways to authenticate are commands like any other
INS_INITIALIZE_UPDATE: Final = 0x50
INS_EXTERNAL_AUTHENTICATE: Final = 0x82
LC_OFFSET: Final = 4
P2_FCI_BITS: Final = 0x0C  # ISO/IEC 7816-4 table 63; the other bits ask for another occurrence
CLA_FURTHER: Final = 0x40  # ISO/IEC 7816-4 §5.4.1: channels 4 to 19
CLA_BASIC_CHANNEL: Final = 0x03
CLA_FURTHER_CHANNEL: Final = 0x0F
CLA_CHAINING: Final = 0x10
CLA_BASIC_SECURE: Final = 0x0C
CLA_FURTHER_SECURE: Final = 0x20
CLA_PROPRIETARY: Final = 0x80
FURTHER_FIRST: Final = 4
# An empty SELECT means one of these; cards of before 2011 have the other (GPCS 2.3.1 §H.1.3)
ISD_AIDS: Final = frozenset({"", "A000000151000000", "A000000003000000"})
SW1_MORE: Final = 0x61
SW1_SELECTED: Final = frozenset({0x90, 0x61, 0x9F, 0x62, 0x63})  # success, and warnings


class Verdict(Enum):
    """Why an APDU is refused."""

    CHANNEL = "another logical channel"
    MANAGE_CHANNEL = "MANAGE CHANNEL"
    NO_APPLET = "nothing this user may use is selected"
    AID = "this may not be selected"
    VERIFY = "a PIN in clear"
    FILTERED = "the header is blocked"


class Firewall:
    """What is selected on each channel of one element, and what follows from it.

    Args:
        is_reference: Nothing but SELECT goes before a SELECT, RESET forgets nothing, and two bits
            of CLA are cleared (racs.md §9.4).
    """

    def __init__(self, *, is_reference: bool = False) -> None:
        self._is_reference = is_reference
        self._selected: dict[int, str] = {}
        self._greeted: set[int] = set()  # channels where a secure channel may be opened next
        self._secured: set[int] = set()
        self.clear(is_power_on=True)

    def clear(self, *, is_power_on: bool = False) -> None:
        """Forget what was selected: the element was reset, or powered on."""
        if self._is_reference and not is_power_on:
            return
        self._selected.clear()
        self._greeted.clear()
        self._secured.clear()
        if not self._is_reference:
            self._selected[0] = AidClass.DEFAULT.value

    def rewrite(self, apdu: bytes) -> bytes:
        """Return the APDU as it goes to the element."""
        if self._is_reference and apdu[0] & CLA_BASIC_CHANNEL and not apdu[0] & CLA_FURTHER:
            return bytes((apdu[0] & ~CLA_BASIC_CHANNEL & 0xFF,)) + apdu[1:]
        return apdu

    def judge(self, apdu: bytes, grant: Grant) -> Verdict | None:
        """Return why an APDU is refused, or None.

        Args:
            apdu: 4 bytes or more, after ``rewrite``.
            grant: What the user may do to this element now.
        """
        cla, ins = apdu[0], apdu[1]
        channel = channel_of(cla)
        rights = grant.rights
        if channel and Right.LOGICAL_CHANNELS not in rights:
            return Verdict.CHANNEL
        if ins == INS_MANAGE_CHANNEL and Right.MANAGE_CHANNEL not in rights:
            return Verdict.MANAGE_CHANNEL
        selections = self._selections(channel, grant)
        if ins == INS_SELECT:
            return self._judge_select(apdu, grant, selections)
        if not selections:
            return Verdict.NO_APPLET
        if ins in INS_WITH_PIN and not (is_secure(cla) and channel in self._secured):
            may_verify = any(Right.VERIFY in selection.rights for selection in selections)
            if not may_verify and Right.VERIFY not in rights:
                return Verdict.VERIFY
        return self._judge_header(apdu, channel, selections)

    def note(self, apdu: bytes, status: int) -> None:
        """Remember what an APDU did, by the status word it got."""
        cla, ins = apdu[0], apdu[1]
        channel = channel_of(cla)
        is_ok = status == StatusWord.OK
        if ins == INS_SELECT:
            if self._is_reference or status >> 8 in SW1_SELECTED:
                self._selected[channel] = _selected_by(apdu) or ""
                self._greeted.discard(channel)
                self._secured.discard(channel)
        elif ins == INS_MANAGE_CHANNEL:
            self._forget(apdu[3] or channel, is_named=bool(apdu[2] or apdu[3]))
        elif ins == INS_INITIALIZE_UPDATE and cla & CLA_PROPRIETARY:
            self._secured.discard(channel)
            if is_ok or status >> 8 == SW1_MORE:
                self._greeted.add(channel)
        elif ins == INS_EXTERNAL_AUTHENTICATE and is_secure(cla) and channel in self._greeted:
            self._greeted.discard(channel)
            if is_ok:
                self._secured.add(channel)

    def _forget(self, channel: int, *, is_named: bool) -> None:
        """Forget a channel that is closed, or opened: what it begins with is the element's choice.

        Where the element chooses the channel, it is one that was closed before.
        """
        if is_named:
            self._selected.pop(channel, None)
            self._greeted.discard(channel)
            self._secured.discard(channel)

    def _selections(self, channel: int, grant: Grant) -> list[Selection]:
        """Return the parts of rules that open what is selected on a channel."""
        selected = self._selected.get(channel)
        if selected is None:
            if self._is_reference:
                return []
            selected = ""  # a channel of which nothing is known
        return _opening(selected, grant.selections)

    def _judge_select(
        self, apdu: bytes, grant: Grant, selections: Iterable[Selection]
    ) -> Verdict | None:
        selected = _selected_by(apdu)
        if self._is_reference and apdu[2:4] != bytes((P1_BY_AID, 0)) and not selections:
            return Verdict.NO_APPLET
        opening = _opening(selected or "", grant.selections)
        if not opening:
            return Verdict.AID
        channel = channel_of(apdu[0])
        return self._judge_header(apdu, channel, opening)

    def _judge_header(
        self, apdu: bytes, channel: int, selections: Iterable[Selection]
    ) -> Verdict | None:
        header = int.from_bytes(apdu[:4], "big")
        cla = _plain_class(apdu[0], is_secured=channel in self._secured)
        plain = cla << 24 | header & 0xFFFFFF
        for selection in selections:
            for entry in selection.filters:
                if entry.is_hit(header) or entry.is_hit(plain):
                    return Verdict.FILTERED
        return None


def channel_of(cla: int) -> int:
    """Return the logical channel of a class byte, in either coding (ISO/IEC 7816-4 §5.4.1).

    Proprietary classes are read alike, as GlobalPlatform and Java Card do.
    """
    if cla & CLA_FURTHER:
        return FURTHER_FIRST + (cla & CLA_FURTHER_CHANNEL)
    return cla & CLA_BASIC_CHANNEL


def is_secure(cla: int) -> bool:
    """Say whether a class byte announces secure messaging (ISO/IEC 7816-4 §5.4.1)."""
    return bool(cla & (CLA_FURTHER_SECURE if cla & CLA_FURTHER else CLA_BASIC_SECURE))


def _plain_class(cla: int, *, is_secured: bool) -> int:
    """Return what a class byte would be on channel 0, not chained; a filter must hit that too.

    Bits of secure messaging count only where a secure channel is open: elements exist that do
    not look at them.
    """
    if cla & CLA_FURTHER:
        secure = CLA_BASIC_SECURE if is_secured and is_secure(cla) else 0
        return cla & CLA_PROPRIETARY | secure
    cla &= ~(CLA_BASIC_CHANNEL | CLA_CHAINING) & 0xFF
    return cla if is_secured else cla & ~CLA_BASIC_SECURE & 0xFF


def _selected_by(apdu: bytes) -> str | None:
    """Return what a SELECT names: an AID in hex, ``isd``; None when that cannot be told."""
    is_plain = not is_secure(apdu[0]) and not _is_chained(apdu[0])
    if apdu[2] != P1_BY_AID or apdu[3] & ~P2_FCI_BITS or not is_plain:
        return None
    try:
        aid = CommandApdu.decode(apdu).data.hex().upper()
    except DecodeError:
        return None
    if aid and not apdu[LC_OFFSET]:
        return None  # extended: an element that knows no such length reads a SELECT without AID
    return AidClass.ISD.value if aid in ISD_AIDS else aid


def _is_chained(cla: int) -> bool:
    return bool(cla & CLA_CHAINING)


def _opening(selected: str, selections: Iterable[Selection]) -> list[Selection]:
    """Return the selections that open an AID; the empty one is opened by ``*`` alone."""
    return [one for one in selections if _opens(one.aids, selected)]


def _opens(aids: frozenset[str], selected: str) -> bool:
    if AidClass.ANY in aids or (selected and selected in aids):
        return True
    return selected == AidClass.ISD and not aids.isdisjoint(ISD_AIDS)
