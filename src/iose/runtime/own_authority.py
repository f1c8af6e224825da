# SPDX-License-Identifier: Apache-2.0
"""The data folder's authority as a node needs it: where it is, and for which names it certifies.

What X.509 takes to load is only paid when it is used: the supervisor does so in a thread.
"""

import socket
from pathlib import Path
from typing import Final

from iose.runtime.config import parse_address
from iose.runtime.folder import DataFolder
from iose.runtime.racs_settings import RacsSettings

PKI_FOLDER: Final = "pki"
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  # compared


def authority_folder(folder: DataFolder) -> Path:
    """Return the folder of certificates, ``user.pem``, ``user.key`` and ``ca.pem`` in it."""
    return folder.path / PKI_FOLDER


def ensure_pki(folder: DataFolder, racs: RacsSettings) -> bool:
    """Make or renew what a node's settings need of its own authority; say whether it changed.

    Raises:
        ConfigurationError: A file is damaged or cannot be written, or the clock is not set.
    """
    if not racs.needs_authority:
        return False
    from iose.runtime.pki import Pki  # noqa: PLC0415  # slow to load

    needs_rsa = racs.legacy_rsa_kx and not racs.certificate
    return Pki(folder.path).ensure(node_names(racs), needs_rsa=needs_rsa)


def has_trust(folder: DataFolder, racs: RacsSettings) -> bool:
    """Return whether every file is there with which the administration plane can start."""
    from iose.runtime.racs_tls import trust_files  # noqa: PLC0415  # slow to load

    files = trust_files(racs, authority_folder(folder))
    needed = [files.ca, *(path for pair in files.pairs for path in pair)]
    return all(path.exists() for path in needed)


def node_names(racs: RacsSettings) -> tuple[str, ...]:
    """Return the names and addresses under which clients look for a node."""
    texts = (*racs.listen, *racs.http_listen)
    hosts = [parse_address(text)[0] for text in texts]
    own = [*LOCAL_NAMES, *filter(None, [socket.gethostname()]), *racs.names, *hosts]
    return tuple(dict.fromkeys(name for name in own if name.isascii() and name not in EVERYWHERE))
