# SPDX-License-Identifier: Apache-2.0
"""Records of others, opened and made again to the same bytes."""

from typing import Any

import pytest

from iose.tls.record_layer import RecordLayer
from tests.support.shared import own_json
from tests.unit.tls.traces import (
    EPOCHS,
    Trace,
    all_openssl_connections,
    hexed,
    record_layer,
    rfc8448_traces,
    split_record,
    suite_of,
)


def check_record(reader: RecordLayer, writer: RecordLayer, record: bytes, inner: bytes) -> None:
    content_type, content = reader.unprotect(*split_record(record))
    assert content + bytes((content_type,)) == inner
    assert writer.protect(content_type, content) == record


def check_records(trace: Trace) -> int:
    """Open and make again every protected record of a trace; return how many there were."""
    layers: dict[str, tuple[RecordLayer, RecordLayer]] = {}
    count = 0
    for item in trace["records"]:
        if "inner_plaintext" not in item:
            continue
        name = EPOCHS[item["epoch"]].format(item["from"])
        if name not in layers:
            secret = hexed(trace, "secrets", name)
            layers[name] = (
                record_layer(suite_of(trace), secret),
                record_layer(suite_of(trace), secret),
            )
        assert layers[name][0].sequence == item["sequence"]
        record = bytes.fromhex(item["record"])
        check_record(*layers[name], record, bytes.fromhex(item["inner_plaintext"]))
        count += 1
    return count


@pytest.mark.parametrize("index", range(5))
def test_every_record_of_rfc_8448_is_made_again(index: int) -> None:
    assert check_records(rfc8448_traces()[index])


@pytest.mark.parametrize("index", range(len(all_openssl_connections())))
def test_every_record_of_openssl_is_made_again(index: int) -> None:
    assert check_records(all_openssl_connections()[index])


@pytest.mark.parametrize("name", ["keystore13_session.json", "tlsse_echo_session.json"])
def test_every_record_of_the_published_applets_is_made_again(name: str) -> None:
    session: dict[str, Any] = own_json(name)
    labels = {
        ("C>S", "hs"): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        ("S>C", "hs"): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        ("C>S", "app"): "CLIENT_TRAFFIC_SECRET_0",
        ("S>C", "app"): "SERVER_TRAFFIC_SECRET_0",
    }
    suite = suite_of({"cipher_suite_id": "1304"})
    layers = {
        key: (
            record_layer(suite, hexed(session, "secrets", label)),
            record_layer(suite, hexed(session, "secrets", label)),
        )
        for key, label in labels.items()
    }
    protected = [item for item in session["tls"] if "epoch" in item]
    assert protected
    for item in protected:
        reader, writer = layers[item["dir"], item["epoch"]]
        check_record(reader, writer, bytes.fromhex(item["record"]), bytes.fromhex(item["plain"]))
