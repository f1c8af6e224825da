# SPDX-License-Identifier: Apache-2.0
"""Who may do what to which element: rules, and what they come to (racs.md §9).

Nothing is allowed that no rule gives. A rule belongs to the element, whatever SEID it is asked
under. What an APDU may contain is judged in ``firewall``, with what is found here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from iose.servers.racs.elements import ElementTable, RacsElement
from iose.wire.errors import IoseError

ANYBODY: Final = "*"
EVERYTHING: Final = "*"
FINGERPRINT_PREFIX: Final = "sha256:"
PSK_PREFIX: Final = "psk:"
FINGERPRINT_DIGITS: Final = 64
AID_SIZES: Final = range(1, 17)
FILTER_SIZE: Final = 4  # CLA INS P1 P2


class RuleError(IoseError):
    """A rule of the administration plane cannot be read."""


class Right(StrEnum):
    """What a rule can give: the protocol's commands, and five rights beside them."""

    LIST = "LIST"
    POWERON = "POWERON"
    RESET = "RESET"
    APDU = "APDU"
    SHUTDOWN = "SHUTDOWN"
    GET_SEN = "GET-SEN"
    SEN = "SEN"  # the name others find the element by
    VERIFY = "VERIFY"  # present a PIN in clear
    PREEMPT = "preempt"  # take an element away from another session
    LOGICAL_CHANNELS = "logical_channels"
    MANAGE_CHANNEL = "manage_channel"


PROTOCOL_RIGHTS: Final = frozenset(
    {Right.LIST, Right.POWERON, Right.RESET, Right.APDU, Right.SHUTDOWN, Right.GET_SEN}
)
SCOPED_RIGHTS: Final = frozenset({Right.VERIFY})  # while an AID of the same rule is selected
FREE_VERBS: Final = frozenset({"GET-VERSION", "SET-VERSION", "ECHO", "QUIT"})  # touch no element


class AidClass(StrEnum):
    """AIDs that rules name by a word."""

    ISD = "isd"
    DEFAULT = "default"
    ANY = "*"


@dataclass(frozen=True, slots=True)
class HeaderFilter:
    """Headers that are refused: ``header & mask == value`` (racs.md §9.3)."""

    mask: int
    value: int

    def is_hit(self, header: int) -> bool:
        """Say whether a header of 4 bytes is refused."""
        return header & self.mask == self.value


@dataclass(frozen=True, slots=True)
class Rule:
    """What one user may do to some elements.

    Attributes:
        user: Common name, ``sha256:<hex>`` of a certificate, ``psk:<identity>``, or ``*``.
        elements: SEIDs, SENs, aliases or globs; ``*`` for all.
        verbs: Commands, ``*`` for all but SEN, and the rights ``VERIFY``, ``SEN``, ``preempt``,
            ``logical_channels`` and ``manage_channel``.
        aids: What may be selected: AIDs in hex, ``isd``, ``default``, ``*``; nothing by default.
        deny: Headers refused while one of ``aids`` is selected, ``MMMMMMMM:VVVVVVVV`` in hex.
    """

    user: str
    elements: tuple[str, ...]
    verbs: tuple[str, ...]
    aids: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """What rules give one user on one element.

    Attributes:
        rights: Commands and rights, those of all the user's rules together; VERIFY only from
            rules that name no AIDs.
        selections: For each rule that gives APDU, which AIDs it opens and what it refuses there.
    """

    rights: frozenset[Right] = frozenset()
    selections: tuple["Selection", ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a rule that speaks of applets.

    Attributes:
        aids: What may be selected, in upper-case hex, or words of ``AidClass``.
        filters: What is refused while one of them is selected.
        rights: What this rule gives while one of them is selected.
    """

    aids: frozenset[str]
    filters: tuple[HeaderFilter, ...] = ()
    rights: frozenset[Right] = field(default=frozenset())


class AccessPolicy:
    """All rules of a node.

    Raises:
        RuleError: A rule names no user or element, or has a word that means nothing.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._parsed = [(rule, *_parse(rule)) for rule in self.rules]

    def check(self, users: frozenset[str], element: RacsElement) -> Grant | None:
        """Return what a user may do to an element; None when it must not even be seen.

        Args:
            users: Every name the user goes by: common name, fingerprint, and ``*``.
            element: The element, whatever name it was asked under.
        """
        rights: frozenset[Right] = frozenset()
        selections = []
        is_visible = False
        for rule, given, selection in self._parsed:
            if not given or rule.user not in users:
                continue
            if not any(map(element.is_matched, rule.elements)):
                continue
            is_visible = True
            rights |= given - SCOPED_RIGHTS if selection.aids else given
            if Right.APDU in given and selection.aids:
                selections.append(selection)
        return Grant(rights, tuple(selections)) if is_visible else None

    def visible(self, users: frozenset[str], table: ElementTable) -> tuple[str, ...]:
        """Return the SEIDs a user may see, in the order of the user's rules (racs.md §6)."""
        seids: dict[str, None] = {}
        for rule, given, _ in self._parsed:
            if rule.user not in users or not given:
                continue
            for pattern in rule.elements:
                if table.find(pattern) is not None:
                    seids[pattern] = None
                    continue
                seids.update(dict.fromkeys(_own_seids(pattern, table)))
        return tuple(seids)


def _own_seids(pattern: str, table: ElementTable) -> list[str]:
    return [element.seid for element in table.elements if element.is_matched(pattern)]


def _parse(rule: Rule) -> tuple[frozenset[Right], Selection]:
    if not rule.user or not rule.elements:
        raise RuleError("a rule names a user and elements")
    if rule.user.startswith(FINGERPRINT_PREFIX):
        _check_fingerprint(rule.user)
    rights = frozenset().union(*(_parse_verb(verb) for verb in rule.verbs))
    aids = frozenset(_parse_aid(aid) for aid in rule.aids)
    if rule.deny and not (aids and Right.APDU in rights):
        raise RuleError(
            "deny without APDU and aids refuses nothing",
            hint="put deny into the rule that gives the AIDs",
        )
    return rights, Selection(aids, tuple(map(_parse_filter, rule.deny)), rights)


def _check_fingerprint(user: str) -> None:
    digits = user.removeprefix(FINGERPRINT_PREFIX)
    if len(digits) != FINGERPRINT_DIGITS or set(digits) - set("0123456789abcdef"):
        raise RuleError(
            f"a fingerprint is sha256: and {FINGERPRINT_DIGITS} lower-case hex digits, found {user}"
        )


def _parse_verb(verb: str) -> frozenset[Right]:
    if verb == EVERYTHING:
        return PROTOCOL_RIGHTS
    if verb in FREE_VERBS:
        return frozenset()
    try:
        return frozenset({Right(verb)})
    except ValueError:
        raise RuleError(
            f"{verb} is no command and no right", hint=f"there are {', '.join(Right)} and *"
        ) from None


def _parse_aid(aid: str) -> str:
    if aid in frozenset(AidClass):
        return str(AidClass(aid))
    size = len(_parse_hex(aid, "an AID"))
    if size not in AID_SIZES:
        raise RuleError(f"an AID has up to {AID_SIZES[-1]} bytes, found {size}")
    return aid.upper()


def _parse_filter(text: str) -> HeaderFilter:
    mask, _, value = text.partition(":")
    mask_bytes, value_bytes = _parse_hex(mask, "a filter"), _parse_hex(value, "a filter")
    if len(mask_bytes) != FILTER_SIZE or len(value_bytes) != FILTER_SIZE:
        raise RuleError(f"a filter is MMMMMMMM:VVVVVVVV in hex, found {text}")
    return HeaderFilter(int.from_bytes(mask_bytes, "big"), int.from_bytes(value_bytes, "big"))


def _parse_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise RuleError(f"{what} is written in hex, found {text}") from None
