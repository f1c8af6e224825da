# SPDX-License-Identifier: Apache-2.0
"""From the words of a command line to what is asked of a card: package, AID, secrets, new keys."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import typer

from iose.cli.card_files import (
    SecretFile,
    check_purpose,
    discard,
    read_fields,
    secret_file,
    write_fields,
)
from iose.cli.card_options import parse_version, read_key_file, read_small_file
from iose.client.cap_file import CAP_SIZE_LIMIT, read_cap
from iose.client.card.channel import CardChannel
from iose.client.card.installation import InstallationRequest, PersonalisationData
from iose.client.card.inventory import CardInventory
from iose.client.card.key_change import draw_keys, next_version, plan_key_change
from iose.client.card.key_files import CardKeys, key_document, read_key_document
from iose.client.card.plan import Plan
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.keys import ANY_VERSION, Diversification
from iose.globalplatform.life_cycle import NO_PRIVILEGES, Privilege
from iose.globalplatform.load_file import LoadFile
from iose.iso7816.aid import Aid
from iose.runtime.compose import (
    draw_instance_secrets,
    draw_module_secrets,
    encode_instance,
    encode_module,
)
from iose.runtime.elements.names import check_sen
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.packages import ShippedPackage, shipped_packages
from iose.wire.errors import DecodeError

CARD_FIELD: Final = "card"
AID_FIELD: Final = "aid"
SERVER_MODULE: Final = "tls_se"
SHIPPED_HINT: Final = "packages of ours are tls-se and tls-im; any other is named by its .cap file"
PRIVILEGE_SIZES: Final = (2, 6)  # hex digits


def names() -> dict[str, str]:
    """Return names for the AIDs of our packages and of their applets."""
    known = {}
    for name, shipped in shipped_packages().items():
        known[str(shipped.load_file.package_aid)] = name
        known[str(shipped.applet_aid)] = name
    return known


def resolve(name: str, *, is_package: bool = False) -> Aid:
    """Return the AID that a name or hex digits mean.

    Args:
        name: ``tls-se``, ``tls-im``, or an AID.
        is_package: Whether a name means the package instead of the usual instance.

    Raises:
        BadParameter: Neither a name nor an AID.
    """
    shipped = shipped_packages().get(name)
    if shipped is not None:
        return shipped.load_file.package_aid if is_package else shipped.applet_aid
    try:
        return Aid.from_hex(name)
    except DecodeError as error:
        raise typer.BadParameter(
            f"{name!r} is neither tls-se, tls-im nor an AID ({error}): 'iose card list' shows the "
            "AIDs on a card, and the file of an instance's secrets holds its own"
        ) from None


def installation(  # noqa: PLR0913  # what the command line says of one
    package: str,
    *,
    aid: str | None,
    sen: str | None,
    seid: str,
    secrets_out: Path | None,
    privileges: str,
    is_default: bool,
    params: str | None,
) -> Callable[[CardInventory], InstallationRequest]:
    """Return what tells, of a card's contents, what is to be on it.

    Args:
        package: Name of one of ours, or a CAP file.
        aid: AID of the instance; None for that in the file of a cut run, else for the applet's,
            or where that is taken and ours is personalised, the first free one after it.
        sen: TLS server name; for a TLS-SE instance, and only there.
        seid: SEID that a TLS-SE instance states.
        secrets_out: File for the secrets of a personalised instance.
        privileges: As ``parse_privileges`` takes them.
        is_default: Whether a reset selects the instance.
        params: Install parameters in hex digits; with them, ours are not personalised.

    Raises:
        BadParameter: Options that do not go together, or miss.
        ConfigurationError: A file cannot be used.
        DecodeError: The CAP file is none.
    """
    granted = parse_privileges(privileges)
    if is_default:
        granted |= Privilege.DEFAULT_SELECTED
    shipped = shipped_packages().get(package)
    instance = None if aid is None else resolve(aid)
    if shipped is not None and params is None:
        secrets = _Secrets(shipped, instance, sen, seid, secrets_out)
        return partial(secrets.request, package, granted)
    if sen is not None or secrets_out is not None:
        raise typer.BadParameter(
            "--sen and --secrets-out are for tls-se and tls-im without --params"
        )
    if shipped is None:
        load_file, module = _foreign(Path(package), instance)
    else:
        load_file, module = shipped.load_file, shipped.applet_aid
    request = InstallationRequest(
        load_file, module, instance or module, package, granted, _hex(params or "")
    )
    return lambda _inventory: request


def parse_privileges(text: str) -> Privilege:
    """Return privileges written as names with commas, or as 1 or 3 bytes in hex.

    Raises:
        BadParameter: One of them is unknown.
    """
    if len(text) in PRIVILEGE_SIZES:
        try:
            return Privilege.decode(bytes.fromhex(text))
        except (ValueError, DecodeError):
            pass  # a name of two or six letters, or blanks
    granted = NO_PRIVILEGES
    for name in filter(None, (one.strip() for one in text.split(","))):
        member = name.upper().replace("-", "_").replace(" ", "_")
        if member not in Privilege.__members__:
            known = ", ".join(one.lower() for one in Privilege.__members__)
            raise typer.BadParameter(f"{name!r} is no privilege; known are {known}")
        granted |= Privilege[member]
    return granted


class NewKeys:
    """The keys a card is to get: random ones, those of a cut run, or those of a file.

    Args:
        out: File for random keys, new or of a cut run.
        given: File with keys to take instead.
        version: Version number as two hex digits; None for the next one, or that of the file.
        diversification: How the card's keys follow from the new ones.
        card: What tells the card from others, written into the file.

    Raises:
        BadParameter: Not exactly one file is named.
        ConfigurationError: The file cannot be used.
        CardManagementError: It holds no keys.
    """

    def __init__(
        self,
        out: Path | None,
        given: Path | None,
        version: str | None,
        diversification: Diversification,
        *,
        card: str,
    ) -> None:
        if (out is None) == (given is None):
            raise typer.BadParameter("give either --out for random keys, or --new-keys")
        self._version = parse_version(version)
        self._diversification = diversification
        self._purpose = {CARD_FIELD: card}
        self._file = (out or given or Path()).absolute()
        self._is_written = self._file.exists() if given is None else True
        self._keys: CardKeys | None = None
        if given is not None:
            self._keys = read_key_file(given).used(
                version=self._version, diversification=diversification
            )
        elif self._is_written:
            check_purpose(self._file, read_fields(self._file), self._purpose)
            self._keys = read_key_document(read_small_file(self._file))
            if self._version not in {None, self._keys.version}:
                raise ConfigurationError(
                    f"{self._file} is of a cut run, with keys of version {self._keys.version:02X}",
                    hint="finish that run first, without --new-version, or name a new file",
                )

    def known(self) -> Sequence[CardKeys]:
        """Return the new keys if a cut run may have put them on the card."""
        return () if self._keys is None else (self._keys,)

    def plan(self, channel: CardChannel) -> Plan:
        """Return the plan to put them on the card.

        Raises:
            CardManagementError: They do not fit the card.
        """
        if self._keys is None:
            self._keys = self._draw(channel)
        if self._keys.version == ANY_VERSION:
            version = next_version(channel.key_version, channel.variant)
            self._keys = self._keys.used(version=version)
        keys = self._keys
        fields = {**self._purpose, **key_document(keys, channel.variant)}
        save = None if self._is_written else lambda: write_fields(self._file, fields)
        return plan_key_change(channel, keys, PycaCrypto(), save=save, file=str(self._file))

    def _draw(self, channel: CardChannel) -> CardKeys:
        version = self._version or next_version(channel.key_version, channel.variant)
        size = len(channel.keys.enc)
        drawn = draw_keys(OsRng(), version, channel.variant, size)
        return drawn.used(diversification=self._diversification)


def _foreign(path: Path, instance: Aid | None) -> tuple[LoadFile, Aid]:
    """Return the package in a CAP file, and the applet of it that is meant.

    Raises:
        ConfigurationError: The file cannot be read, or has several applets.
        DecodeError: It is no CAP file.
    """
    try:
        with path.open("rb") as file:
            load_file = read_cap(file.read(CAP_SIZE_LIMIT + 1))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint=SHIPPED_HINT
        ) from error
    applets = load_file.applet_aids
    if instance in applets:
        return load_file, instance
    if len(applets) == 1:
        return load_file, applets[0]
    listed = ", ".join(str(one) for one in applets) or "none"
    raise ConfigurationError(
        f"the package has not one applet but these: {listed}",
        hint="choose one of them with --aid" if applets else None,
    )


class _Secrets:
    """The secrets of an instance of ours, new or of a cut run.

    Raises:
        BadParameter: Options miss, or do not go together.
        ConfigurationError: The file cannot be used, or the SEN cannot be one.
    """

    def __init__(
        self,
        shipped: ShippedPackage,
        aid: Aid | None,
        sen: str | None,
        seid: str,
        secrets_out: Path | None,
    ) -> None:
        if secrets_out is None:
            raise typer.BadParameter("--secrets-out FILE is needed: keys and PINs go there first")
        if sen is None and shipped.module == SERVER_MODULE:
            raise typer.BadParameter("--sen NAME is needed: every TLS-SE instance has its own")
        if sen is not None and shipped.module != SERVER_MODULE:
            raise typer.BadParameter("--sen is for tls-se")
        purpose = {"seid": seid}
        if aid is not None:
            purpose[AID_FIELD] = str(aid)
        if sen is not None:
            check_sen(sen)
            purpose["sen"] = sen
        draw = draw_module_secrets if sen is None else draw_instance_secrets
        self._file = secret_file(secrets_out, purpose, draw)
        self._shipped = shipped
        content = self._file.content
        try:
            self._parameters, self._data = (
                encode_module(content) if sen is None else encode_instance(sen, seid, content)
            )
        except ValueError:  # it would quote a secret
            raise ConfigurationError(
                f"{self._file.path} holds a damaged secret", hint="name a new file"
            ) from None
        self._aid = _written_aid(self._file) if self._file.is_written else aid

    def request(
        self, package: str, privileges: Privilege, inventory: CardInventory
    ) -> InstallationRequest:
        """Return what is to be on a card that holds this.

        Raises:
            CardManagementError: No AID is free.
        """
        shipped, file = self._shipped, self._file
        aid = self._aid or inventory.free_aid(shipped.applet_aid)
        content = {AID_FIELD: str(aid), **file.content}
        save = None if file.is_written else lambda: write_fields(file.path, content)
        return InstallationRequest(
            shipped.load_file,
            shipped.applet_aid,
            aid,
            package,
            privileges,
            self._parameters,
            PersonalisationData(self._data, str(file.path), save, partial(discard, file.path)),
        )


def _written_aid(file: SecretFile) -> Aid:
    """Return the AID of the instance that a cut run began.

    Raises:
        ConfigurationError: The file does not say it.
    """
    try:
        return Aid.from_hex(file.content.get(AID_FIELD, ""))
    except DecodeError:
        raise ConfigurationError(
            f"{file.path} does not say which instance it is of", hint="name a new file"
        ) from None


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise typer.BadParameter("--params is written in hex digits") from None
