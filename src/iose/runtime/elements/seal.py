# SPDX-License-Identifier: Apache-2.0
"""What is encrypted at rest: the data key of an encrypted folder, and exported elements.

Everything is AES-256-GCM; keys come from a passphrase by scrypt, or from the folder's data key,
which only the holder of the folder and its hosts have.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iose.crypto.base import Aead, AeadAlgorithm, HashAlgorithm, Rng
from iose.crypto.errors import CryptoError, InvalidTagError
from iose.crypto.pyca import PycaCrypto
from iose.runtime.elements.archive import (
    ARCHIVE_FORMAT,
    ARCHIVE_VERSION,
    PassphraseKey,
    new_passphrase_key,
    passphrase_key,
    read_archive_fields,
)
from iose.runtime.errors import ConfigurationError

NONCE_SIZE: Final = 12
DATA_KEY_SIZE: Final = 32
_DATA_KEY_LABEL: Final = b"iose data key 1"
_STORE_LABEL: Final = b"iose element store 1 "
_CRYPTO: Final = PycaCrypto()


def element_key(data_key: bytes, seid: str) -> bytes:
    """Return the key of one element's store, so that no store can take another's place."""
    return _CRYPTO.hmac(HashAlgorithm.SHA256, data_key, _STORE_LABEL + seid.encode())


def wrap_new_data_key(passphrase: str, rng: Rng) -> tuple[bytes, dict[str, object]]:
    """Return a fresh data key, and what the folder keeps to find it again.

    Raises:
        ConfigurationError: The passphrase is too short.
    """
    made = new_passphrase_key(passphrase, rng)
    data_key = rng.random_bytes(DATA_KEY_SIZE)
    nonce = rng.random_bytes(NONCE_SIZE)
    wrapped = _aead(made.key).encrypt(nonce, data_key, _DATA_KEY_LABEL)
    return data_key, {
        "salt": made.parameters.salt.hex(),
        "cost_log2": made.parameters.cost_log2,
        "nonce": nonce.hex(),
        "wrapped": wrapped.hex(),
    }


def unwrap_data_key(passphrase: str, kept: Mapping[str, object]) -> bytes:
    """Return the data key of a folder.

    Raises:
        ConfigurationError: The passphrase is wrong, or what the folder keeps is damaged.
    """
    aead = _aead(passphrase_key(passphrase, kept))
    try:
        return aead.decrypt(_hex(kept, "nonce"), _hex(kept, "wrapped"), _DATA_KEY_LABEL)
    except InvalidTagError:
        raise ConfigurationError("the passphrase of the data folder is wrong") from None
    except (ValueError, CryptoError):
        raise ConfigurationError("the folder's description of its key is damaged") from None


@dataclass(frozen=True, slots=True)
class Archive:
    """An exported element, opened.

    Attributes:
        seid: Its SEID.
        export_id: Random name of this export, to finish what a power cut interrupted.
        is_copy: Whether the element stayed where it was.
        objects: Its persistent objects.
    """

    seid: str
    export_id: str
    is_copy: bool
    objects: Mapping[str, bytes]


def encode_archive(archive: Archive, made: PassphraseKey, rng: Rng) -> bytes:
    """Return the content of an export file; everything in it is authenticated."""
    nonce = rng.random_bytes(NONCE_SIZE)
    header = {
        "format": ARCHIVE_FORMAT,
        "version": ARCHIVE_VERSION,
        "seid": archive.seid,
        "export_id": archive.export_id,
        "copy": archive.is_copy,
        "salt": made.parameters.salt.hex(),
        "cost_log2": made.parameters.cost_log2,
        "nonce": nonce.hex(),
    }
    objects = {name: _b64(value) for name, value in archive.objects.items()}
    content = json.dumps(objects).encode()
    sealed = _aead(made.key).encrypt(nonce, content, _canonical(header))
    return json.dumps({**header, "sealed": _b64(sealed)}).encode() + b"\n"


def decode_archive(content: bytes, key: bytes) -> Archive:
    """Return what an export file holds.

    Raises:
        ConfigurationError: It is no export file, it was changed, or the key is another one's.
    """
    header = dict(read_archive_fields(content))
    try:
        sealed = base64.b64decode(str(header.pop("sealed")), validate=True)
        opened = json.loads(_aead(key).decrypt(_hex(header, "nonce"), sealed, _canonical(header)))
        objects = {str(name): base64.b64decode(value) for name, value in opened.items()}
    except InvalidTagError:
        raise ConfigurationError("the passphrase is wrong, or the file was changed") from None
    except (ValueError, TypeError, AttributeError, RecursionError, CryptoError, binascii.Error):
        raise ConfigurationError("the export file is damaged") from None
    return Archive(str(header["seid"]), str(header["export_id"]), header["copy"] is True, objects)


def _aead(key: bytes) -> Aead:
    return _CRYPTO.aead(AeadAlgorithm.AES_256_GCM, key)


def _canonical(header: Mapping[str, object]) -> bytes:
    return json.dumps(header, sort_keys=True).encode()


def _hex(source: Mapping[str, object], name: str) -> bytes:
    return bytes.fromhex(str(source.get(name)))


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
