# SPDX-License-Identifier: Apache-2.0
"""Which card ``iose card`` talks to and with which keys; keys never stand on the command line."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from iose.cli.common_options import ConfigOption, with_options
from iose.cli.output import warn
from iose.cli.passphrase import folder_passphrase
from iose.cli.racs_access import (
    DataOption,
    LegacyOption,
    PkiOption,
    ServerNameOption,
    ServerOption,
    open_reader,
    served_names,
)
from iose.client.card.channel import Tools
from iose.client.card.failed_keys import FailedKeys
from iose.client.card.key_files import (
    FILE_SIZE_LIMIT,
    PUBLISHED_KEYS,
    CardKeys,
    read_key_document,
)
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.keys import Diversification
from iose.iso7816.aid import Aid
from iose.runtime.config import NodeConfig
from iose.runtime.elements.names import check_unique_sen
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.local_reader import LocalReader, find_local
from iose.runtime.readers.targets import OpenedReader, find_reader, is_reader_target
from iose.transport.racs_client import RacsReader

OTHERS_MAY_READ: Final = 0o044
KEY_VARIABLES: Final = ("IOSE_CARD_KEY_ENC", "IOSE_CARD_KEY_MAC", "IOSE_CARD_KEY_DEK")
KEYS_HINT: Final = (
    "give --keys FILE; for an element of yours: iose element secrets NAME --out FILE --again"
)
SENS_HINT: Final = "choose another name; 'iose racs list' and 'iose element list' show those in use"
DEMO_WARNING: Final = "these are the published keys: anybody may manage a card that takes them"
DEMO_HINT: Final = "give it keys of its own: iose card put-key TARGET --demo-keys --out FILE"

KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="Keys of the card, as 'element secrets' writes them.")
]
DemoKeysOption = Annotated[
    bool, typer.Option("--demo-keys", help="The published keys 40..4F, for demonstrations.")
]
KeyVersionOption = Annotated[
    str | None, typer.Option("--key-version", help="Key version, two hex digits; 00 for any.")
]
DiversifyOption = Annotated[
    Diversification,
    typer.Option("--diversify", help="The keys are master keys; how the card's follow from them."),
]
RetryOption = Annotated[
    bool, typer.Option("--retry-keys", help="Try keys that failed on this card before.")
]
DomainOption = Annotated[
    str | None, typer.Option("--isd", help="AID of the issuer security domain; else looked for.")
]
_OPTIONS: Final = (
    ("keys", KeysOption, None),
    ("demo_keys", DemoKeysOption, False),
    ("key_version", KeyVersionOption, None),
    ("diversify", DiversifyOption, Diversification.NONE),
    ("retry_keys", RetryOption, False),
    ("isd", DomainOption, None),
    ("config", ConfigOption, None),
    ("data", DataOption, None),
    ("server", ServerOption, None),
    ("pki", PkiOption, None),
    ("server_name", ServerNameOption, None),
    ("is_legacy", LegacyOption, False),
)


CardReader = LocalReader | RacsReader | OpenedReader


@dataclass(frozen=True, slots=True)
class CardOptions:
    """What the user said of a card and its keys; the fields are the options."""

    keys: Path | None
    demo_keys: bool
    key_version: str | None
    diversify: Diversification
    retry_keys: bool
    isd: str | None
    config: Path | None
    data: Path | None
    server: str | None
    pki: Path | None
    server_name: str | None
    is_legacy: bool

    def reader(self, target: str) -> CardReader:
        """Return what holds the card: a server, a folder without a node, or a reader without one.

        Raises:
            ConfigurationError: The target or the server is not named as it must be.
            ControlError: There is neither a node nor a data folder.
            TransportError: The server or the reader is not there, refuses us, or has no such
                element.
        """
        if is_reader_target(target):
            if self.server is not None or self.pki is not None:
                raise ConfigurationError(f"{target!r} is on this machine; --server is not for it")
            return find_reader(target, self.config)
        if self.config is not None:
            raise ConfigurationError("--config is for targets such as reader:SEID")
        try:
            return open_reader(
                target,
                self.data,
                self.server,
                self.pki,
                server_name=self.server_name,
                is_legacy=self.is_legacy,
            )
        except ControlError:
            path = NodeConfig(data=str(self.data or "")).folder
            local = find_local(path, target, folder_passphrase(path).read)
            if local is None:
                raise
            return local

    def check_sen(self, reader: CardReader, sen: str) -> None:
        """Check that no TLS server of the reader's server or folder has this name.

        Of a reader of this machine no others are known; of a server that is not the local node,
        only elements that we may see are.

        Raises:
            ConfigurationError: One has.
            TransportError: The server is not there, or refuses us.
        """
        if isinstance(reader, OpenedReader):
            return  # who will serve it, and what else, is not known yet
        taken = reader.sens if isinstance(reader, LocalReader) else served_names(reader, self.data)
        check_unique_sen(sen, taken, hint=SENS_HINT)

    def tools(self) -> Tools:
        """Return what card management needs of this host."""
        crypto = PycaCrypto()
        return Tools(crypto, OsRng(), FailedKeys(crypto), retries_failed=self.retry_keys)

    def issuer_domain(self) -> Aid | None:
        """Return the AID of the issuer security domain, if it was named.

        Raises:
            DecodeError: It is not an AID.
        """
        return None if self.isd is None else Aid.from_hex(self.isd)

    def card_keys(self) -> CardKeys:
        """Return the keys of the card: from a file, the environment, or the published ones.

        Raises:
            ConfigurationError: Not exactly one of them was given, or it cannot be read.
            CardManagementError: It does not hold keys.
        """
        in_environment = any(os.environ.get(name) for name in KEY_VARIABLES)
        if (self.keys is not None) + self.demo_keys > 1:
            raise ConfigurationError("--keys and --demo-keys exclude each other")
        if self.demo_keys:
            warn(DEMO_WARNING, DEMO_HINT)
            keys = PUBLISHED_KEYS
        elif self.keys is not None:
            keys = read_key_file(self.keys)
        elif in_environment:
            keys = _environment_keys()
        else:
            raise ConfigurationError("the keys of the card are needed", hint=KEYS_HINT)
        if keys.is_demo and not self.demo_keys:
            warn(DEMO_WARNING, DEMO_HINT)
        return keys.used(version=parse_version(self.key_version), diversification=self.diversify)


def with_card(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options that choose a card and its keys.

    Args:
        command: Its first parameter is the ``CardOptions`` given; the command line does not see
            it.
    """
    return with_options(command, _OPTIONS, CardOptions)


def read_key_file(path: Path) -> CardKeys:
    """Return the keys in a file; one that others can read is warned of.

    Raises:
        ConfigurationError: It cannot be read.
        CardManagementError: It does not hold keys.
    """
    return read_key_document(read_small_file(path))


def read_small_file(path: Path) -> bytes:
    """Return the content of a file of secrets; one that others can read is warned of.

    Raises:
        ConfigurationError: It cannot be read, or is too large to be one.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS_MAY_READ:
                warn(f"the key file {path} can be read by others", f"chmod 600 {path}")
            content = file.read(FILE_SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > FILE_SIZE_LIMIT:
        raise ConfigurationError(f"{path} is too large to be a key file")
    return content


def _environment_keys() -> CardKeys:
    values = [os.environ.get(name, "") for name in KEY_VARIABLES]
    try:
        enc, mac, dek = (bytes.fromhex(value) for value in values)
    except ValueError:
        enc = mac = dek = b""
    if not (enc and mac and dek):
        raise ConfigurationError(
            "the environment does not hold three keys in hex digits",
            hint=f"set {', '.join(KEY_VARIABLES)}, or give --keys FILE",
        )
    return CardKeys(enc, mac, dek)


def parse_version(text: str | None) -> int | None:
    """Return a key version written as two hex digits; None when none is given.

    Raises:
        BadParameter: It is written otherwise.
    """
    if text is None:
        return None
    try:
        (version,) = bytes.fromhex(text)
    except ValueError:
        raise typer.BadParameter("a key version is written as two hex digits") from None
    return version
