# SPDX-License-Identifier: Apache-2.0
"""Block ciphers without padding: what card management still speaks, by pyca/cryptography.

``pyca`` calls it. Triple DES is here for SCP02 alone (GPCS 2.3.1 §E), AES-CBC and CMAC for SCP03;
nothing that is new may choose them.
"""

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from iose.crypto.errors import CryptoError

AES_BLOCK_SIZE: Final = 16
AES_KEY_SIZES: Final = (16, 24, 32)
DES_BLOCK_SIZE: Final = 8
DES3_KEY_SIZES: Final = (16, 24)


def aes_cbc(key: bytes, iv: bytes) -> Cipher[modes.CBC]:
    """Return AES-CBC (NIST SP 800-38A §6.2).

    Raises:
        CryptoError: Wrong size of key or IV.
    """
    return Cipher(_aes(key), _cbc_mode(iv, AES_BLOCK_SIZE))


def des3_cbc(key: bytes, iv: bytes) -> Cipher[modes.CBC]:
    """Return triple DES in CBC mode (NIST SP 800-67, SP 800-38A §6.2).

    Raises:
        CryptoError: Wrong size of key or IV.
    """
    return Cipher(_des3(key), _cbc_mode(iv, DES_BLOCK_SIZE))


def des3_ecb(key: bytes) -> Cipher[modes.ECB]:
    """Return triple DES, block by block (NIST SP 800-67, SP 800-38A §6.1).

    Raises:
        CryptoError: Wrong key size.
    """
    return Cipher(_des3(key), modes.ECB())  # noqa: S305  # key check values, wrapped keys


def encrypt(cipher: Cipher[modes.CBC] | Cipher[modes.ECB], data: bytes, block_size: int) -> bytes:
    """Return whole blocks encrypted.

    Raises:
        CryptoError: The data are not whole blocks.
    """
    _check_blocks(data, block_size)
    encryptor = cipher.encryptor()
    return encryptor.update(data) + encryptor.finalize()


def decrypt(cipher: Cipher[modes.CBC] | Cipher[modes.ECB], data: bytes, block_size: int) -> bytes:
    """Return whole blocks decrypted.

    Raises:
        CryptoError: The data are not whole blocks.
    """
    _check_blocks(data, block_size)
    decryptor = cipher.decryptor()
    return decryptor.update(data) + decryptor.finalize()


def aes_cmac(key: bytes, data: bytes) -> bytes:
    """Return the 16-byte CMAC of any data (NIST SP 800-38B).

    Raises:
        CryptoError: Wrong key size.
    """
    mac = CMAC(_aes(key))
    mac.update(data)
    return mac.finalize()


def _aes(key: bytes) -> BlockCipherAlgorithm:
    if len(key) not in AES_KEY_SIZES:
        raise CryptoError(f"expected an AES key, found {len(key)} bytes")
    return AES(key)


def _des3(key: bytes) -> BlockCipherAlgorithm:
    if len(key) not in DES3_KEY_SIZES:
        raise CryptoError(f"expected a triple DES key of 16 or 24 bytes, found {len(key)}")
    return TripleDES(key if len(key) == max(DES3_KEY_SIZES) else key + key[:DES_BLOCK_SIZE])


def _cbc_mode(iv: bytes, block_size: int) -> modes.CBC:
    if len(iv) != block_size:
        raise CryptoError(f"expected an IV of {block_size} bytes, found {len(iv)}")
    return modes.CBC(iv)


def _check_blocks(data: bytes, block_size: int) -> None:
    if len(data) % block_size:
        raise CryptoError(f"expected whole {block_size}-byte blocks, found {len(data)} bytes")
