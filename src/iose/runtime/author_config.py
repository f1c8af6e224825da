# SPDX-License-Identifier: Apache-2.0
"""From the published server's configuration directory to a node's TOML file (iose-server.md §3).

Its quirks are honoured: comments, remarks after values, later lines that win, the key without a
value that ends all. What cannot be carried over is told, in notes and in the file's last comment.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iose.iso7816.aid import Aid
from iose.iso7816.atr import NO_NAME
from iose.runtime.author_emulator import EMULATOR, take_emulated
from iose.runtime.author_policy import (
    AuthorAccess,
    PolicyLine,
    is_seid,
    make_rules,
    parse_filter,
    parse_policy,
    parse_users,
)
from iose.runtime.author_readers import (
    CONFIG,
    DISABLING_AID_SIZE,
    READERS,
    SETTINGS,
    TYPES,
    AuthorReaders,
    is_sen,
    read_readers,
)
from iose.runtime.config import ALIAS_LIMIT, parse_address, read_config
from iose.runtime.errors import ConfigurationError
from iose.runtime.racs_settings import RuleSettings
from iose.wire.errors import DecodeError

USERS: Final = "users.txt"
SUFFIX: Final = ".txt"
ACCESS: Final = "se_default_access"
CARDS: Final = "cardsn.txt"
NOT_POLICIES: Final = frozenset({CONFIG, USERS, CARDS, READERS, TYPES, EMULATOR, "atr.txt"})
NAME_FILE_PREFIX: Final = "sen_"
FILE_LIMIT: Final = 1 << 20
FILES_LIMIT: Final = 4096
LINE_LIMIT: Final = 1023  # of the published server
COMMENTS: Final = ("/", "*")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
UNDECODED: Final = "\ufffd"  # what stands where bytes are no UTF-8
MS_PER_S: Final = 1000
NUMBER_DIGITS: Final = 9
STATIC_RSA: Final = "AES128-GCM-SHA256"

# what becomes of a key: table, key of ours, and how its value is read
_TIMES: Final = {
    "server_timeout": ("racs", "session_s"),
    "server_timeout2": ("front", "session_s"),
    "server_cnx_timeout2": ("front", "first_record_s"),
    "keystore_wait_end_time": ("front", "drain_s"),
}
_FILES: Final = {"cert_file": "certificate", "key_file": "key", "ca_file": "ca"}
_KNOWN_APART: Final = frozenset(
    {
        *("server_port", "server_port2", "enable_racs", "enable_tls_se", "nb_session_max"),
        *(ACCESS, "use_sen_as_cardsn", "cipher_list", "password"),
        *("restricted_seid_list", "secure_element_index"),
        *SETTINGS,
    }
)
_NEEDLESS: Final = frozenset(
    {
        *("racs_verbose", "reader_verbose", "i2c_verbose", "reader_console", "system_console"),
        *("system_console2", "racs_log", "trace_dir", "session_console_tile", "bg_color"),
        *("pen_color", "font_size", "line_size", "autostart", "start_delay", "cache_dir"),
        *("cache_enable", "cache_timeout", "cache_nb_digits", "cache_for_ever"),
    }
)


@dataclass(frozen=True, slots=True)
class ImportedConfig:
    """A node's configuration made of the published server's.

    Attributes:
        toml: The file's text; the notes are its last comment.
        notes: What was not carried over, or should be looked at.
    """

    toml: str
    notes: tuple[str, ...]


def read_author_config(folder: Path) -> ImportedConfig:
    """Return what a configuration directory of the published server comes to.

    Raises:
        ConfigurationError: It holds no ``config.txt`` or no ``users.txt``, or cannot be read.
    """
    return _Importer(folder).work()


class _Importer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._notes: list[str] = []
        self._tables: dict[str, dict[str, object]] = {"front": {}, "racs": {}}
        self._readers = AuthorReaders()

    def work(self) -> ImportedConfig:
        if not self._has(USERS) or not self._has(CONFIG):
            raise ConfigurationError(
                f"{self._folder} holds no {CONFIG} or no {USERS}",
                hint="give the directory the published server was started with",
            )
        settings = self._read_settings()
        self._take_addresses(settings)
        self._take_limits(settings)
        self._take_certificates(settings)
        self._readers = read_readers(self._folder, settings, self._optional_lines, self._note)
        take_emulated(self._readers, self._folder, self._optional_lines(EMULATOR), self._note)
        self._take_names(settings)
        rules = make_rules(self._read_access(settings), self._note)
        self._note_index(settings)
        self._note(
            "SEN and preemption are rights here that no rule above gives: in the published "
            "server every user has them"
        )
        toml = self._render(rules)
        read_config(tomllib.loads(toml))  # what we write is what we read
        return ImportedConfig(toml, tuple(self._notes))

    def _note(self, text: str) -> None:
        shown = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in text
        )  # a file's name may hold the end of a line, and what stands after it would be a rule
        if shown not in self._notes:
            self._notes.append(shown)

    # -- reading

    def _lines(self, name: str) -> list[list[str]]:
        """Return the words of each line of a file that is no comment; what is odd is noted.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        path = self._folder / name
        try:
            with path.open("rb") as file:
                content = file.read(FILE_LIMIT + 1)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        if len(content) > FILE_LIMIT:
            raise ConfigurationError(f"{path} has more than {FILE_LIMIT} bytes")
        return list(self._split(name, content))

    def _optional_lines(self, name: str) -> list[list[str]]:
        return self._lines(name) if self._has(name) else []

    def _split(self, name: str, content: bytes) -> Iterator[list[str]]:
        for number, raw in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), 1):
            text = raw.decode(errors="replace").strip("\r").replace("\t", " ")
            words = [word for word in text.split(" ") if word]
            if not words or words[0].startswith(COMMENTS):
                continue
            if len(raw) <= LINE_LIMIT and text.isprintable() and UNDECODED not in text:
                yield words
                continue
            self._note(f"{name}: line {number} is too long or no text")
            if name == CONFIG:
                yield [ACCESS, UNDECODED]  # it may have been what closes
            elif name == USERS:
                yield [words[0], UNDECODED]
            else:  # a line that is left out may open something
                yield [UNDECODED]

    def _read_settings(self) -> dict[str, list[str]]:
        settings: dict[str, list[str]] = {}
        lines = self._lines(CONFIG)
        for position, (key, *values) in enumerate(lines):
            if not values:
                rest = len(lines) - position - 1
                self._note(
                    f"{CONFIG}: {key} has no value, so the published server left the {rest} lines "
                    "after it unread; so did we"
                )
                break
            settings[key] = values
        for key in settings:
            if key not in {*_TIMES, *_FILES, *_KNOWN_APART, *_NEEDLESS}:
                self._note(f"{CONFIG}: {key} has no counterpart")
        return settings

    def _read_access(self, settings: Mapping[str, list[str]]) -> AuthorAccess:
        access = settings.get(ACCESS, [""])[0]
        if access != "yes":
            self._note(
                "what no policy speaks of may not be selected; the published server, whatever "
                "se_default_access says, lets it be"
            )
        users = parse_users(self._lines(USERS), self._note)
        seids = {seid for user in users for seid in user.seids or ()}
        policies = self._read_policies()
        policies.update(dict.fromkeys(self._doubtful(seids - policies.keys())))
        names = {file for policy in policies.values() for _, file in _users_of(policy) if file}
        has_wide_user = any(user.seids is None for user in users)
        for seid in [seid for seid, policy in policies.items() if policy is None]:
            if seid not in seids and (f"{seid}.txt" in names or not has_wide_user):
                del policies[seid]  # a filter, or any text
            else:
                self._note(f"{seid}.txt is not understood; nobody may select anything in {seid}")
        filters = {name: self._read_filter(name) for name in sorted(names)}
        return AuthorAccess(users, policies, filters, is_open=access == "yes")

    def _read_policies(self) -> dict[str, tuple[PolicyLine, ...] | None]:
        policies: dict[str, tuple[PolicyLine, ...] | None] = {}
        for name in self._names():
            seid = name[: -len(SUFFIX)]
            if name in NOT_POLICIES or name.startswith(NAME_FILE_PREFIX):
                continue
            if not is_seid(seid):
                self._note(f"{name}: {seid} can be no SEID here")
            elif name.endswith(SUFFIX):
                policies[seid] = parse_policy(name, self._lines(name), self._note)
            else:  # a policy on some systems, no policy on others
                policies.setdefault(seid, None)
        return policies

    def _doubtful(self, seids: set[str]) -> Iterator[str]:
        """Yield the SEIDs without a policy that have one where the case of names is nothing."""
        names = {name.lower() for name in self._names()}
        return (seid for seid in sorted(seids) if f"{seid}{SUFFIX}".lower() in names)

    def _names(self) -> list[str]:
        files = (path.name for path in self._folder.iterdir() if path.is_file())
        names = sorted(name for name in files if name.lower().endswith(SUFFIX))
        if len(names) > FILES_LIMIT:
            raise ConfigurationError(f"{self._folder} holds more than {FILES_LIMIT} files")
        return names

    def _read_filter(self, name: str) -> tuple[str, ...] | None:
        if Path(name).name != name or not self._has(name):
            self._note(f"{name}: this filter file is not in the directory; its users get no access")
            return None
        return parse_filter(name, self._lines(name), self._note)

    # -- settings

    def _take_addresses(self, settings: Mapping[str, list[str]]) -> None:
        for key, switch, table in (
            ("server_port", "enable_racs", "racs"),
            ("server_port2", "enable_tls_se", "front"),
        ):
            if settings.get(switch, ["yes"])[0] != "yes":
                self._tables[table]["listen"] = []
            elif key in settings:
                try:
                    parse_address(settings[key][0])
                    self._tables[table]["listen"] = [settings[key][0]]
                except ConfigurationError:
                    self._note(f"{CONFIG}: {key} is no address; our default stands")

    def _take_limits(self, settings: Mapping[str, list[str]]) -> None:
        for key, (table, name) in _TIMES.items():
            if (value := self._number(settings, key)) is not None:
                self._tables[table][name] = value / MS_PER_S
        if (limit := self._number(settings, "nb_session_max")) is not None:
            self._tables["front"]["session_limit"] = limit

    def _number(self, settings: Mapping[str, list[str]], key: str) -> int | None:
        if key not in settings:
            return None
        text = settings[key][0]
        if not text.isascii() or not text.isdecimal() or not 0 < len(text) <= NUMBER_DIGITS:
            self._note(f"{CONFIG}: {key} is no number; our default stands")
            return None
        return int(text) or None  # 0: our default

    def _take_certificates(self, settings: Mapping[str, list[str]]) -> None:
        paths = {
            ours: self._folder / settings[key][0] for key, ours in _FILES.items() if key in settings
        }
        missing = [str(path) for path in paths.values() if not self._has(str(path))]
        if paths and not missing and len(paths) == len(_FILES):
            self._tables["racs"].update({ours: str(path) for ours, path in paths.items()})
            self._note("users' certificates are taken from ca_file alone, never from the system's")
        elif paths:
            self._note(
                f"{CONFIG}: certificates are not carried over, {', '.join(missing) or 'some'} "
                "missing; the node makes its own: iose pki"
            )
        if "password" in settings:
            self._note(f"{CONFIG}: key_file has a password; take it off, and set mode 0600")
        if any(STATIC_RSA in word.split(":") for word in settings.get("cipher_list", [])):
            self._note(
                "the author's own clients need 'legacy_rsa_kx = true' in [racs], an RSA "
                "certificate, and do without forward secrecy"
            )

    def _take_names(self, settings: Mapping[str, list[str]]) -> None:
        for name in self._names():
            if not name.startswith(NAME_FILE_PREFIX) or not name.endswith(SUFFIX):
                continue
            seid = name.removeprefix(NAME_FILE_PREFIX).removesuffix(SUFFIX)
            for words in self._lines(name)[:1]:
                if is_seid(seid) and UNDECODED not in words:
                    self._take_name(name, seid, words)
        if settings.get("use_sen_as_cardsn", ["no"])[0] == "yes" and self._has(CARDS):
            for words in self._lines(CARDS):
                if len(words) > 1 and is_seid(words[1]):
                    self._readers.name_element(words[0], words[1])

    def _take_name(self, file: str, seid: str, words: list[str]) -> None:
        sen, aid = words[0], words[1] if len(words) > 1 else ""
        table = self._readers.elements.setdefault(seid, {})
        for key in ("sen", "aid", "is_enabled"):  # what a grid says of its slots
            table.pop(key, None)
        if sen.lower() == NO_NAME or len(aid) == DISABLING_AID_SIZE:
            table["is_enabled"] = False
            return
        if not sen.isascii() or len(sen) > ALIAS_LIMIT:
            self._note(f"{file}: no server name; the element is taken off the service plane")
            table["is_enabled"] = False
            return
        if seid in self._readers.seids and is_sen(sen):
            table["sen"] = sen
        else:
            table["aliases"] = [sen]
        try:
            if aid:
                table["aid"] = str(Aid.from_hex(aid))
        except DecodeError:
            self._note(f"{file}: {aid} is no AID; the element is taken off the service plane")
            table["is_enabled"] = False

    def _has(self, name: str) -> bool:
        try:
            return (self._folder / name).is_file()
        except OSError:  # no file can have such a name
            return False

    def _note_index(self, settings: Mapping[str, list[str]]) -> None:
        if settings.get("secure_element_index", ["yes"])[0] == "yes":
            self._note(
                "SEIDs 0, 1, … and 999 meant readers in the order they were found; give elements "
                "such SEIDs with 'seids' in [element.\"NAME\"] where rules need them"
            )

    # -- writing

    def _render(self, rules: Iterable[RuleSettings]) -> str:
        parts = ["# A node's configuration, made of a directory of the published server.", ""]
        parts += ["elements = 0  # software elements to make", ""]
        for table in self._readers.tables:
            parts += ["[[readers]]", *_pairs(table), ""]
        for name, table in self._tables.items():
            parts += [f"[{name}]", *_pairs(table), ""]
        for rule in rules:
            fields = {
                "user": rule.user,
                "elements": rule.elements,
                "verbs": rule.verbs,
                "aids": rule.aids,
                "deny": rule.deny,
            }
            parts += ["[[racs.rules]]", *_pairs({k: v for k, v in fields.items() if v}), ""]
        for name, table in self._readers.elements.items():
            parts += [f"[element.{_text(name)}]", *_pairs(table), ""]
        parts += ["# Not carried over, or to be looked at:"]
        parts += [f"# - {note}" for note in self._notes]
        return "\n".join(parts) + "\n"


def _users_of(policy: tuple[PolicyLine, ...] | None) -> Iterator[tuple[str, str]]:
    for line in policy or ():
        yield from line.users


def _pairs(table: Mapping[str, object]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_text(key)} = {_value(one)}' for key, one in value.items())} }}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)
