# SPDX-License-Identifier: Apache-2.0
"""Each fault has its alert, and unknown numbers survive."""

import pytest

from iose.crypto.errors import CryptoError, InvalidTagError
from iose.tls import AlertReceived, ClientEngine, TlsPeerError
from iose.tls.alerts import alert_for
from iose.tls.constants import AlertDescription, HandshakeType, KeyUpdateRequest
from iose.tls.session import Session
from iose.wire.errors import DecodeError, IoseError, LocalProtocolError
from tests.support.engine_pair import client_config, engine_config


@pytest.mark.parametrize(
    ("fault", "alert"),
    [
        (TlsPeerError(AlertDescription.UNRECOGNIZED_NAME, "x"), AlertDescription.UNRECOGNIZED_NAME),
        (DecodeError("x"), AlertDescription.DECODE_ERROR),
        (InvalidTagError("x"), AlertDescription.BAD_RECORD_MAC),
        (CryptoError("x"), AlertDescription.ILLEGAL_PARAMETER),
        (LocalProtocolError("x"), AlertDescription.INTERNAL_ERROR),
        (IoseError("x"), AlertDescription.INTERNAL_ERROR),
    ],
)
def test_each_fault_has_its_alert(fault: IoseError, alert: AlertDescription) -> None:
    assert alert_for(fault) is alert


def test_unknown_numbers_survive_with_a_name() -> None:
    assert AlertDescription(199) == 199
    assert AlertDescription(199).name == "UNKNOWN_199"
    assert HandshakeType(77) not in list(HandshakeType)
    assert str(AlertReceived(AlertDescription(199))) == "the peer sent alert unknown_199"
    with pytest.raises(ValueError, match="close"):
        AlertDescription("close")  # type: ignore[arg-type]


def test_a_fault_of_our_own_is_an_internal_error() -> None:
    class BrokenRng:
        def random_bytes(self, count: int) -> bytes:
            raise LocalProtocolError("no entropy")

    config = client_config()
    object.__setattr__(config.engine, "rng", BrokenRng())
    client = ClientEngine(config)
    with pytest.raises(LocalProtocolError):
        client.start()
    assert client.is_closed
    assert client.data_to_send() == bytes.fromhex("15030100020250")


def test_a_session_without_keys_changes_none() -> None:
    session = Session(engine_config())
    session.send_key_update(KeyUpdateRequest.UPDATE_REQUESTED)
    session.receive_key_update(KeyUpdateRequest.UPDATE_REQUESTED)
    assert session.records == []
