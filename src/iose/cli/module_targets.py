# SPDX-License-Identifier: Apache-2.0
"""What a person types for an identity module, and the secrets that go with it."""

import sys
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import typer

from iose.cli.output import warn
from iose.cli.racs_access import open_reader, resolve_racs
from iose.client.errors import CredentialsError, ElementUriError
from iose.client.module import HopModule, Module, RacsModule, decode_module
from iose.client.module_place import (
    ReaderKind,
    ReaderModule,
    is_reader_uri,
)
from iose.runtime.errors import ConfigurationError
from iose.runtime.readers.settings import (
    I2cSettings,
    PcscSettings,
    RacsReaderSettings,
    ReaderSettings,
    SerialSettings,
    SimArraySettings,
)
from iose.runtime.readers.targets import CONFIGURED, OpenedReader, find_reader

UNREACHED_HINT: Final = "let a node serve it, and name it by its SEID or racs://HOST:PORT/SEID"

ModuleOption = Annotated[
    str | None,
    typer.Option(
        "--module",
        help="The identity module that has the PSK: racs://host:port/SEID, the name of an"
        " element of the local node, pcsc:READER, i2c:DEVICE?address=N, serial:DEVICE,"
        " reader:SEID, or another element's URI.",
    ),
]
PinFileOption = Annotated[
    Path | None, typer.Option("--pin-file", help="A file that holds the module's PIN.")
]


def find_module(
    text: str,
    pin_file: Path | None,
    *,
    is_confirmed: bool = False,
    config: Path | None = None,
    pki: Path | None,
    data: Path | None,
) -> Module:
    """Return the module that a person means, with its PIN if it takes one.

    Raises:
        ElementUriError: It is not named as it must be, or an option is not for it.
        ConfigurationError: ``reader:SEID`` names no reader of a configuration.
        IoseError: The element it is in cannot be found.
    """
    found = _decode(text, config, pki=pki, data=data, is_confirmed=is_confirmed)
    if isinstance(found, HopModule):
        if pin_file is not None:
            raise ElementUriError("a module with another element has no PIN", hint=None)
        _warn_of_key(found)
        return found
    if is_confirmed:
        raise ElementUriError("--button is for a module with another element", hint=None)
    if isinstance(found, RacsModule):
        folder = resolve_racs(data, found.server, pki).certificate.parent.absolute()
        return replace(found, pki=folder, pin=read_pin(pin_file))
    if found.needs_pin:
        return replace(found, pin=read_pin(pin_file))
    if pin_file is not None:
        raise ElementUriError("a module of this form has no PIN", hint=None)
    return found


def _decode(
    text: str, config: Path | None, *, pki: Path | None, data: Path | None, is_confirmed: bool
) -> Module:
    if text.lower().startswith(CONFIGURED):
        place, _, query = text.partition("?")
        return _in_reader(find_reader(place, config), query)
    if config is not None:
        raise ElementUriError("--config is for modules such as reader:SEID", hint=None)
    if "://" not in text and not is_reader_uri(text):
        name, _, query = text.partition("?")
        reader = open_reader(name, data, pki=pki)
        local = quote(reader.seid, safe="")
        text = f"racs://{reader.endpoint.address}/{local}" + (f"?{query}" if query else "")
    return decode_module(text, pki=Path(), is_confirmed=is_confirmed)


def _in_reader(found: OpenedReader, query: str) -> ReaderModule:
    """Return the module in a configured reader, as a URI that needs no configuration."""
    where, more = _uri_of(found.settings, found)
    options = "&".join(one for one in (more, query) if one)
    return ReaderModule.decode(f"{where}?{options}" if options else where)


def _uri_of(settings: ReaderSettings, found: OpenedReader) -> tuple[str, str]:
    match settings:
        case PcscSettings():
            return f"{ReaderKind.PCSC}:{quote(found.slot.seid, safe='')}", ""
        case I2cSettings():
            options = f"address={settings.address}&transfer_size={settings.transfer_size}"
            options += f"&flavour={settings.flavour}"
            if settings.reset_chip:
                options += f"&reset_chip={quote(settings.reset_chip)}"
                options += f"&reset_line={settings.reset_line}"
            return f"{ReaderKind.I2C}:{quote(settings.bus)}", options
        case SerialSettings():
            return f"{ReaderKind.SERIAL}:{quote(settings.device)}", f"baud={settings.baud}"
        case SimArraySettings():
            slot = found.slot.seid.rpartition("-")[2]
            return f"{ReaderKind.SIM_ARRAY}://{settings.address}/{slot}", ""
        case RacsReaderSettings():
            raise ConfigurationError(
                f"{found.seid} is an element of another node",
                hint=f"name it there: racs://{settings.address}/{found.slot.seid}",
            )
        case _:
            raise ConfigurationError(
                f"a client cannot open a reader of type {settings.type!r}", hint=UNREACHED_HINT
            )


def _warn_of_key(hop: HopModule) -> None:
    if hop.uri.psk is not None:
        warn(
            "the PSK of the hop was on the command line, where the history keeps it",
            f"iose credentials set '{hop.uri.scheme}://{hop.uri.address}/'",
        )


def read_pin(pin_file: Path | None) -> bytes:
    """Return the PIN of a module: from a file, a terminal or stdin.

    Raises:
        ElementUriError: It has other characters than a PIN has.
        CredentialsError: The file cannot be read.
    """
    text = read_text(pin_file, "PIN of the module: ")
    if not text.isascii():  # what a card would count as a wrong one
        raise ElementUriError("a PIN has characters of ASCII only", hint=None)
    return text.encode()


def read_text(file: Path | None, prompt: str) -> str:
    """Return a secret: from a file, a terminal or stdin.

    Raises:
        CredentialsError: The file cannot be read.
    """
    if file is not None:
        try:
            return file.read_text(encoding="ascii", errors="replace").strip()
        except OSError as fault:
            raise CredentialsError(f"{file}: {fault.strerror}") from None
    return (getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()).strip()
