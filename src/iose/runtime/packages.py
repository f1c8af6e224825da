# SPDX-License-Identifier: Apache-2.0
"""The load files of our own modules: what can be loaded onto a software element.

They have the shape of CAP files, so that the tools of the field carry them, and hold no code but
the digest of the sources that run in its place. Sources are read by path; no applet is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import iose
from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.load_file import LoadFile
from iose.globalplatform.packages import build_package
from iose.iso7816.aid import Aid
from iose.wire.writer import ByteWriter

SHARED_SOURCES: Final = "applet_commands"  # of more than one module
SIZE_WIDTH: Final = 4


@dataclass(frozen=True, slots=True)
class ShippedPackage:
    """One load file of ours.

    Attributes:
        name: What people call it.
        load_file: What goes onto a card.
        applet_aid: Identifier of its one applet.
        module: Name of the module that the element runs.
        version: Version of the package, "major.minor".
    """

    name: str
    load_file: LoadFile
    applet_aid: Aid
    module: str
    version: str


@dataclass(frozen=True, slots=True)
class _Plan:
    name: str
    module: str
    package_aid: Aid
    applet_aid: Aid
    version: tuple[int, int]


_PLANS: Final = (
    _Plan("tls-se", "tls_se", Aid.from_hex("0102030405"), Aid.from_hex("010203040500"), (3, 0)),
    _Plan("tls-im", "tls_im", Aid.from_hex("0102030408"), Aid.from_hex("010203040800"), (2, 0)),
)


@cache
def shipped_packages() -> Mapping[str, ShippedPackage]:
    """Return our load files by name; sources are read once per process."""
    return MappingProxyType({plan.name: _shipped(plan) for plan in _PLANS})


def source_digest(module: str) -> bytes:
    """Return the SHA-256 of a module's sources: paths and contents, each with its size."""
    room = Path(iose.__file__).parent
    writer = ByteWriter()
    for folder in (room / "applets" / module, room / SHARED_SOURCES):
        for path in sorted(folder.rglob("*.py")):
            writer.write_opaque(path.relative_to(room).as_posix().encode(), SIZE_WIDTH)
            writer.write_opaque(path.read_bytes(), SIZE_WIDTH)
    return PycaCrypto().hash(HashAlgorithm.SHA256, writer.to_bytes())


def _shipped(plan: _Plan) -> ShippedPackage:
    load_file = build_package(
        package_aid=plan.package_aid,
        applet_aids=(plan.applet_aid,),
        module=plan.module,
        version=plan.version,
        digest=source_digest(plan.module),
    )
    version = ".".join(map(str, plan.version))
    return ShippedPackage(plan.name, load_file, plan.applet_aid, plan.module, version)
