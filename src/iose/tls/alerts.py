# SPDX-License-Identifier: Apache-2.0
"""The one mapping from a fault to the alert it gets (RFC 8446 §6.2)."""

from iose.crypto.errors import CryptoError, InvalidTagError
from iose.tls.constants import AlertDescription
from iose.tls.errors import TlsPeerError
from iose.wire.errors import DecodeError, IoseError


def alert_for(fault: IoseError) -> AlertDescription:
    """Return the alert for a fault met while the peer's bytes were processed (RFC 8446 §6.2).

    Bytes that do not fit the syntax get decode_error; a record that fails authentication,
    bad_record_mac; a key share that is no element of its group, illegal_parameter; rules of the
    protocol name their own alert where they are checked. Anything else is our own failure.
    """
    match fault:
        case TlsPeerError():
            return fault.alert
        case DecodeError():
            return AlertDescription.DECODE_ERROR
        case InvalidTagError():
            return AlertDescription.BAD_RECORD_MAC
        case CryptoError():
            return AlertDescription.ILLEGAL_PARAMETER
        case _:
            return AlertDescription.INTERNAL_ERROR
