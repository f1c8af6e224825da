# SPDX-License-Identifier: Apache-2.0
"""The load files of our own modules: what can be loaded onto a software element.

They have the shape of CAP files, so that the tools of the field carry them, and hold no code but
the digest of the sources that run in its place. Sources are read by path; no applet is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iose.iso7816.aid import Aid


@dataclass(frozen=True, slots=True)
class ShippedPackage:
    """One load file of ours."""

    name: str
    load_file: Any
    applet_aid: Aid
    module: str
    version: str


def shipped_packages() -> Mapping[str, ShippedPackage]:
    """Return our load files by name."""
    return {}
