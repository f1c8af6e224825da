# SPDX-License-Identifier: Apache-2.0
"""The published server's users, applet policies and header filters, as rules of ours (racs.md §9).

What is not understood gives nothing: a damaged policy closes its element, a missing filter closes
its applet. What a rule of ours cannot say is told, and given to nobody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from iose.iso7816.aid import Aid
from iose.runtime.racs_settings import RuleSettings
from iose.wire.errors import DecodeError

ALL: Final = "all"
DEFAULT: Final = "default"
ANY: Final = "*"
SEID_LIMIT: Final = 63
USERS_LIMIT: Final = 64  # racs.md §9.1; the published server reads no more
FILTER_SIZE: Final = 8  # mask and value, 4 bytes each
MASK_SIZE: Final = 4
POLICY_WORDS: Final = 3
GLOB: Final = frozenset("*?[]")
ISD_AIDS: Final = frozenset({"A000000151000000", "A000000003000000"})  # one to our rules
NAME_PREFIXES: Final = ("sha256:", "psk:")  # what begins so is no common name in a rule of ours

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AuthorUser:
    """One line of the users' table.

    Attributes:
        name: Common name.
        seids: Elements; None for all.
    """

    name: str
    seids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One line of an element's policy.

    Attributes:
        aid: In upper-case hex, or ``default``: any that stands in no line before.
        is_black: Those named may not, all others may.
        users: Names, each with its filter file or "".
    """

    aid: str
    is_black: bool
    users: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AuthorAccess:
    """All that says who may do what.

    Attributes:
        users: The users' table.
        policies: Policies by SEID; None for one that could not be understood.
        filters: Filters by file name, ``MMMMMMMM:VVVVVVVV``; None for one that is missing or bad.
        is_open: Whether what no policy speaks of may be selected.
    """

    users: tuple[AuthorUser, ...]
    policies: Mapping[str, tuple[PolicyLine, ...] | None]
    filters: Mapping[str, tuple[str, ...] | None]
    is_open: bool


Opening = tuple[str, tuple[str, ...]]  # an AID or *, and what is denied while it is selected


def is_seid(text: str) -> bool:
    """Return whether an element of ours may have this SEID."""
    is_word = text.isprintable() and " " not in text
    return 0 < len(text) <= SEID_LIMIT and is_word and not GLOB & set(text)


def parse_users(lines: list[list[str]], note: Note) -> tuple[AuthorUser, ...]:
    """Return the users of ``users.txt``, given as words; what is wrong is noted and left out."""
    users: dict[str, AuthorUser] = {}
    for words in lines:
        name, rest = words[0], words[1:]
        seids: tuple[str, ...] | None = ()
        if name.startswith(NAME_PREFIXES):
            note(f"users.txt: {name} means something else in a rule; the user gets nothing")
        elif rest[:1] == [ALL]:
            seids = None
        elif not rest or not rest[0].isdecimal():
            note(f"users.txt: expected 'NAME COUNT SEID…' for {name}; the user gets nothing")
        else:
            seids = _counted(name, rest[0], rest[1:], note)
        if name in users:
            note(f"users.txt: {name} stands there twice; what both lines give is given")
            seids = _common(users[name].seids, seids)
        users[name] = AuthorUser(name, seids)
    if len(users) > USERS_LIMIT:
        note(f"users.txt: the published server read {USERS_LIMIT} users, here are {len(users)}")
    return tuple(users.values())


def _common(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(seid for seid in one if seid in other)


def _counted(name: str, count: str, seids: list[str], note: Note) -> tuple[str, ...]:
    if int(count[:SEID_LIMIT]) != len(seids):
        note(f"users.txt: {name} has a count of {count} before {len(seids)} words")
    taken = []
    for seid in seids[: int(count[:SEID_LIMIT])]:
        if not is_seid(seid):
            note(f"users.txt: {seid} can be no SEID here; {name} does not get it")
        else:
            taken.append(seid)
    return tuple(dict.fromkeys(taken))


def parse_policy(file: str, lines: list[list[str]], note: Note) -> tuple[PolicyLine, ...] | None:
    """Return the lines of ``<SEID>.txt``, given as words; None if one is wrong."""
    policy = []
    for words in lines:
        line = _policy_line(words)
        if line is None:
            return None
        if len(line.users) != int(words[2]):
            note(f"{file}: {words[2]} users are counted for {words[0]}, {len(line.users)} named")
        if not line.is_black:  # more than were counted may not be meant
            line = PolicyLine(line.aid, line.is_black, line.users[: int(words[2])])
        policy.append(line)
    return tuple(policy)


def _policy_line(words: list[str]) -> PolicyLine | None:
    if len(words) < POLICY_WORDS or words[1] not in {"yes", "no"}:
        return None
    if not words[2].isascii() or not words[2].isdecimal() or len(words[2]) > POLICY_WORDS:
        return None
    try:
        aid = words[0] if words[0] == DEFAULT else Aid.from_hex(words[0]).value.hex().upper()
    except DecodeError:
        return None
    users = tuple(
        (name, file or mark) for name, mark, file in (w.partition(":") for w in words[3:])
    )
    return PolicyLine(aid, words[1] == "yes", users)


def parse_filter(file: str, lines: list[list[str]], note: Note) -> tuple[str, ...] | None:
    """Return what a filter file denies; None, and a note, if a line is wrong."""
    found = []
    for words in lines:
        try:
            data = bytes.fromhex("".join(words))
        except ValueError:
            data = b""
        if len(data) != FILTER_SIZE:
            note(f"{file}: expected {FILTER_SIZE} bytes in hex per line; its users get no access")
            return None
        found.append(f"{data[:MASK_SIZE].hex()}:{data[MASK_SIZE:].hex()}".upper())
    return tuple(found)


def make_rules(access: AuthorAccess, note: Note) -> tuple[RuleSettings, ...]:
    """Return the rules that give no more than the published server's files say."""
    rules: list[RuleSettings] = []
    for user in access.users:
        groups: dict[tuple[Opening, ...], list[str]] = {}
        if user.seids is None:
            seids = tuple(access.policies)
            openings = _whole(access, user.name, note)
            groups[openings] = [ANY]
        else:
            seids = user.seids
        for seid in seids:
            groups.setdefault(_openings(access, seid, user.name, note), []).append(seid)
        for openings, members in groups.items():
            elements = (ANY,) if ANY in members else tuple(members)
            rules += _rules(user.name, elements, openings)
    return tuple(rules)


def _whole(access: AuthorAccess, user: str, note: Note) -> tuple[Opening, ...]:
    """Return what one may select on every element: nothing where single ones have policies."""
    if not access.is_open:
        return ()
    if access.policies:
        note(
            f"users.txt: {user} has all elements, and some have policies; the others are seen, "
            "but nothing may be selected: name them in rules of their own"
        )
        return ()
    return ((ANY, ()),)


def _openings(access: AuthorAccess, seid: str, user: str, note: Note) -> tuple[Opening, ...]:
    policy = access.policies.get(seid, ())
    if policy is None:
        return ()
    found: dict[str, tuple[str, ...]] = {}
    closed: list[str] = []
    for line in (*policy, PolicyLine(DEFAULT, is_black=access.is_open, users=())):
        if line.aid in found or line.aid in closed:
            continue  # the first line of an AID counts
        deny = _denied(line, user, access)
        if line.aid != DEFAULT:
            if deny is None:
                closed.append(line.aid)
            else:
                found[line.aid] = deny
            continue
        if deny is not None:
            # by a part of its name, or as the one of power on, an applet is selected unnamed
            deny = tuple(
                dict.fromkeys([*deny, *(one for named in found.values() for one in named)])
            )
        if deny is not None and closed:
            note(
                f"{seid}.txt: {user} may select anything but {', '.join(closed)}, which no rule "
                "says: only the AIDs named are given"
            )
        elif deny is not None:
            found[ANY] = deny
        break
    return tuple(_one_domain(found, closed, f"{seid}.txt: {user}", note).items())


def _one_domain(
    found: dict[str, tuple[str, ...]], closed: list[str], who: str, note: Note
) -> dict[str, tuple[str, ...]]:
    """Return the openings without a security domain that is closed by its other AID."""
    opened = ISD_AIDS & found.keys()
    if not opened or ANY in found:
        return found
    if ISD_AIDS.isdisjoint(closed):
        if opened != ISD_AIDS:
            note(f"{who} may select the issuer security domain by any of its AIDs, not by one")
        return found
    note(f"{who} may not select the issuer security domain: one of its AIDs is closed")
    return {aid: deny for aid, deny in found.items() if aid not in ISD_AIDS}


def _denied(line: PolicyLine, user: str, access: AuthorAccess) -> tuple[str, ...] | None:
    """Return what is denied to a user by a line that opens an AID; None where it does not."""
    files = [file for name, file in line.users if name == user]
    if line.is_black:
        return None if files else ()
    filters = [access.filters.get(file) if file else () for file in files]
    if not filters or None in filters:
        return None
    return tuple(dict.fromkeys(deny for one in filters for deny in one or ()))


def _rules(
    user: str, elements: tuple[str, ...], openings: tuple[Opening, ...]
) -> list[RuleSettings]:
    if not openings:
        return [RuleSettings(user, elements, ("*",))]
    by_filter: dict[tuple[str, ...], list[str]] = {}
    for aid, deny in openings:
        by_filter.setdefault(deny, []).append(aid)
    return [
        RuleSettings(user, elements, ("*", "VERIFY"), tuple(aids), deny)
        for deny, aids in by_filter.items()
    ]
