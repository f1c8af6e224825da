# SPDX-License-Identifier: Apache-2.0
"""The configuration of a node: one TOML file, read strictly; every key has a default.

``iose up`` makes one of its options; ``iose node run`` reads one. The node process gets it whole
over its channel: nothing in it is a secret.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Annotated, Final, Literal

from iose.iso7816.aid import Aid
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import default_folder
from iose.runtime.racs_settings import RacsSettings
from iose.runtime.readers.settings import READER_TYPES, ReaderSettings
from iose.runtime.schema import OneOf, read_table
from iose.wire.errors import DecodeError

DEFAULT_LISTEN: Final = "127.0.0.1:8888"
PORT_LIMIT: Final = 65_535
ELEMENTS_LIMIT: Final = 8000  # an inventory is one frame
HOSTS_LIMIT: Final = 64
ALIAS_LIMIT: Final = 255  # a host name, RFC 1035 §2.3.4
FRONT: Final = "front"
PLANES: Final = (FRONT, "racs", "http", "racsl")
"""What listens, in the order in which the node process gets the sockets."""
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "text"]


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """Table ``front``: as ``FrontConfig``, whose default stands where nothing is written here.

    Addresses are written ``HOST:PORT``; an empty list listens nowhere.
    """

    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    default_sen: str | None = None
    is_silent: bool | None = None
    first_record_s: float | None = None
    queue_wait_s: float | None = None
    handshake_s: float | None = None
    idle_s: float | None = None
    session_s: float | None = None
    drain_s: float | None = None
    session_limit: int | None = None
    source_connections: int | None = None
    source_rate: float | None = None
    source_burst: int | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Table ``log``: what is logged, and how.

    Attributes:
        level: The least severe level that is written.
        format: JSON objects for machines, or text for people.
        file: File to append to, made with mode 0600; "" for stderr.
    """

    level: Level = "info"
    format: Format = "json"
    file: str = ""


@dataclass(frozen=True, slots=True)
class ElementSettings:
    """Table ``element."<SEN or SEID>"``: how the node treats one element.

    What is below ``seids`` is for elements behind readers: a software element says itself what
    it is called and what it takes.

    Attributes:
        aliases: More server names, up to 255 characters each.
        aid: Application to select at the start of a session, in hex; "" for the card's default,
            or behind a reader for the one that was found.
        is_enabled: Whether the service plane serves it.
        seids: More SEIDs, under which the administration plane finds it, too.
        sen: Its server name; "" for the one the element says.
        max_record: Largest TLS record it takes; 0 for no limit, None for its reader's setting.
        chunk_size: Largest command data, 1 to 65 535 bytes; None for its reader's setting.
        warm_reset: Whether it is reset with its power on; None for its reader's setting.
    """

    aliases: tuple[str, ...] = ()
    aid: str = ""
    is_enabled: bool = True
    seids: tuple[str, ...] = ()
    sen: str = ""
    max_record: int | None = None
    chunk_size: int | None = None
    warm_reset: bool | None = None


def settings_finder(
    elements: Mapping[str, ElementSettings],
) -> Callable[[str, str], ElementSettings]:
    """Return what finds the table of an element, by its SEID, else by its SEN in any case."""
    by_sen: dict[str, ElementSettings] = {}
    for name, settings in elements.items():
        by_sen.setdefault(name.lower(), settings)
    nothing = ElementSettings()

    def find(seid: str, sen: str) -> ElementSettings:
        return elements.get(seid) or by_sen.get(sen.lower()) or nothing

    return find


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The whole file.

    Attributes:
        data: Data folder; "" for $IOSE_DATA, else the user's data folder.
        elements: How many software elements exist at least; missing ones are made.
        hosts: Element host processes; 0 for one per core.
        passphrase_file: File with the passphrase of an encrypted data folder, or "".
        front: The service plane.
        racs: The administration plane; None for none.
        element: Settings of single elements, by SEN or SEID.
        readers: Ways to real elements.
        log: Logs.
    """

    data: str = ""
    elements: int = 3
    hosts: int = 0
    passphrase_file: str = ""
    front: FrontSettings = field(default_factory=FrontSettings)
    racs: RacsSettings | None = None
    element: dict[str, ElementSettings] = field(default_factory=dict)
    readers: tuple[Annotated[ReaderSettings, OneOf("type", READER_TYPES)], ...] = ()
    log: LogSettings = field(default_factory=LogSettings)

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        chosen = Path(self.data) if self.data else default_folder(os.environ)
        return chosen.expanduser().absolute()

    @property
    def host_count(self) -> int:
        """Element hosts to run."""
        return self.hosts or min(len(os.sched_getaffinity(0)), HOSTS_LIMIT)

    @property
    def listen(self) -> tuple[tuple[str, int], ...]:
        """The front's addresses."""
        return tuple(parse_address(text) for text in self.front.listen)

    def listen_of(self, plane: str) -> tuple[tuple[str, int], ...]:
        """Return the addresses of one of ``PLANES``."""
        if plane == FRONT:
            return self.listen
        if self.racs is None:
            return ()
        settings = self.racs
        texts = {
            "racs": settings.listen,
            "http": settings.http_listen,
            "racsl": settings.racsl_listen,
        }
        return tuple(parse_address(text) for text in texts[plane])

    def to_json(self) -> dict[str, object]:
        """Return the configuration for another process of ours."""
        return _without_none(asdict(self))


def load_config(path: Path) -> NodeConfig:
    """Return the configuration in a TOML file.

    Raises:
        ConfigurationError: The file cannot be read, is no TOML, or holds a bad setting.
    """
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    try:
        return read_config(table)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}", hint=error.hint) from None


def read_config(table: Mapping[str, object]) -> NodeConfig:
    """Return the configuration in a table.

    Raises:
        ConfigurationError: A key is unknown, or a value makes no sense; the message names it.
    """
    config = read_table(NodeConfig, table)
    _check_range("elements", config.elements, 0, ELEMENTS_LIMIT)
    _check_range("hosts", config.hosts, 0, HOSTS_LIMIT)
    for text in config.front.listen:
        parse_address(text)
    for item in fields(FrontSettings):
        value = getattr(config.front, item.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_positive(f"front.{item.name}", value)
    if config.racs is not None:
        _check_racs(config.racs, config)
    for name, element in config.element.items():
        _check_aid(name, element.aid)
        for alias in element.aliases:
            _check_alias(name, alias)
    if config.readers or config.element:
        _check_readers(config)
    return config


def _check_readers(config: NodeConfig) -> None:
    from iose.runtime.readers.rules import (  # noqa: PLC0415  # many commands have no readers
        check_overrides,
        check_readers,
    )

    check_readers(config.readers)
    check_overrides(config.element, config.readers)


def _check_racs(racs: RacsSettings, config: "NodeConfig") -> None:
    for plane in PLANES:
        config.listen_of(plane)
    for item in fields(RacsSettings):
        value = getattr(racs, item.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not (item.name == "session_s" and value == 0):
            _check_positive(f"racs.{item.name}", value)
    if bool(racs.certificate) != bool(racs.key):
        raise ConfigurationError("'racs.certificate' and 'racs.key' go together")
    if racs.crl and not racs.ca:
        raise ConfigurationError("'racs.crl' is the list of those in 'racs.ca', which is missing")
    from iose.runtime.racs_rules import check_rules  # noqa: PLC0415  # many commands have no plane

    check_rules(racs)


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of ``HOST:PORT``; an IPv6 address stands in brackets.

    Raises:
        ConfigurationError: It is written in another way.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= PORT_LIMIT):
        raise ConfigurationError(
            f"{text!r} is not an address to listen on",
            hint="write HOST:PORT, as in 127.0.0.1:8888 or [::1]:8888; port 0 takes a free one",
        )
    return host, int(port)


def _check_aid(name: str, aid: str) -> None:
    try:
        if aid:
            Aid.from_hex(aid)
    except DecodeError as error:
        raise ConfigurationError(f"the setting 'element.{name}.aid': {error}") from error


def _check_alias(name: str, alias: str) -> None:
    if not (1 <= len(alias) <= ALIAS_LIMIT and all("!" <= letter <= "~" for letter in alias)):
        raise ConfigurationError(
            f"the setting 'element.{name}.aliases': {alias!r} is not a server name",
            hint=f"use up to {ALIAS_LIMIT} printable ASCII characters without spaces",
        )


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < inf:  # neither is "nan", which TOML knows
        raise ConfigurationError(f"the setting {name!r} must be above 0")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"the setting {name!r} must be between {low} and {high}")


def _without_none(table: Mapping[str, object]) -> dict[str, object]:
    return {key: _json_value(value) for key, value in table.items() if value is not None}


def _json_value(value: object) -> object:
    if isinstance(value, dict):
        return _without_none(value)
    return [_json_value(item) for item in value] if isinstance(value, tuple) else value
