# SPDX-License-Identifier: Apache-2.0
"""From a table ``[[readers]]`` to the bank it stands for: the one place that knows every transport.

What a transport needs is imported when a table asks for it: a node without PC/SC loads no PC/SC.
"""

from pathlib import Path
from typing import Final

from iose.runtime.config import parse_address
from iose.runtime.errors import ConfigurationError
from iose.runtime.own_authority import PKI_FOLDER
from iose.runtime.racs_rules import read_psk
from iose.runtime.readers.settings import (
    I2cSettings,
    PcscSettings,
    RacslReaderSettings,
    RacsReaderSettings,
    ReaderSettings,
    SerialSettings,
    SimArraySettings,
)
from iose.transport.bank import ReaderBank

INSTALL_HINT: Final = "install iose again, whole"


def make_bank(settings: ReaderSettings, folder: Path) -> ReaderBank:
    """Return the bank of a table; it is not started.

    Args:
        settings: The table, which has been checked.
        folder: The data folder, from which relative paths lead.

    Raises:
        ConfigurationError: A key's file cannot be used, or the transport cannot be loaded.
    """
    try:
        return _make(settings, folder)
    except ImportError as error:
        raise ConfigurationError(
            f"readers of type {settings.type!r} cannot be used: {error}", hint=INSTALL_HINT
        ) from error


def _make(settings: ReaderSettings, folder: Path) -> ReaderBank:
    match settings:
        case PcscSettings():
            return _pcsc(settings)
        case RacsReaderSettings():
            return _racs(settings, folder)
        case RacslReaderSettings():
            return _racsl(settings, folder)
        case SimArraySettings():
            return _sim_array(settings)
        case I2cSettings():
            return _i2c(settings)
        case SerialSettings():
            return _serial(settings)
        case _:
            raise ConfigurationError(f"readers of type {settings.type!r} are not known")


def _pcsc(one: PcscSettings) -> ReaderBank:
    from iose.transport.pcsc import PcscBank  # noqa: PLC0415

    return PcscBank(one.label, readers=one.readers, apdu_s=one.apdu_s)


def _racs(one: RacsReaderSettings, folder: Path) -> ReaderBank:
    from iose.transport.racs_bank import RacsBank  # noqa: PLC0415
    from iose.transport.racs_link import RacsEndpoint, identity_files  # noqa: PLC0415

    host, port = parse_address(one.address)
    certificate, key, ca = identity_files(folder / (one.pki or PKI_FOLDER))
    endpoint = RacsEndpoint(
        host,
        port,
        certificate,
        key,
        ca,
        server_name=one.server_name or None,
        is_legacy=one.legacy,
        answer_s=one.apdu_s,
    )
    return RacsBank(
        one.label,
        endpoint=endpoint,
        elements=one.elements,
        apdu_s=one.apdu_s,
        poll_s=one.poll_s,
    )


def _racsl(one: RacslReaderSettings, folder: Path) -> ReaderBank:
    from iose.transport.racsl_bank import RacslBank  # noqa: PLC0415

    host, port = parse_address(one.address)
    return RacslBank(
        one.label,
        host=host,
        port=port,
        sen=one.sen,
        identity=one.identity,
        psk=read_psk(folder / one.psk_file),
        suite=one.suite,
        apdu_s=one.apdu_s,
    )


def _sim_array(one: SimArraySettings) -> ReaderBank:
    from iose.transport.sim_array import SimArrayBank  # noqa: PLC0415

    host, port = parse_address(one.address)
    return SimArrayBank(
        one.label, host=host, port=port, slots=one.slots, apdu_s=one.apdu_s, poll_s=one.poll_s
    )


def _i2c(one: I2cSettings) -> ReaderBank:
    from iose.transport.i2c import I2cBank  # noqa: PLC0415

    return I2cBank(
        one.label,
        bus=one.bus,
        address=one.address,
        flavour=one.flavour,
        reset_chip=one.reset_chip,
        reset_line=one.reset_line,
        transfer_size=one.transfer_size,
        sen=one.sen,
        apdu_s=one.apdu_s,
    )


def _serial(one: SerialSettings) -> ReaderBank:
    from iose.transport.serial_line import SerialBank  # noqa: PLC0415

    return SerialBank(one.label, device=one.device, baud=one.baud, sen=one.sen, apdu_s=one.apdu_s)
