# SPDX-License-Identifier: Apache-2.0
"""The measurements run and report; how fast anything is, is no test's business."""

import json

import pytest

from iose.cli.bench import _cells
from iose.runtime.bench.measure import run
from iose.runtime.bench.openssl_client import OpensslClient, PeerProgramError, load_openssl
from iose.runtime.bench.plan import Plan, take_turns
from iose.runtime.bench.programs import IDENTITY, REFERENCE_KEY, reference_server
from iose.runtime.bench.readers import READER_MS
from iose.runtime.bench.report import Added, Figure, Report, Row, figure
from tests.support.peers import require_peer


@pytest.fixture(autouse=True)
def openssl():
    return require_peer("openssl")


def test_the_outside_client_and_the_reference_understand_each_other():
    client = OpensslClient(load_openssl(), REFERENCE_KEY, IDENTITY, "key1.com")
    with reference_server() as address, client.connect(address) as session:
        assert session.ask(b"abc\n") == b"cba\n"
    client.close()


def test_the_outside_client_fails_with_another_key():
    client = OpensslClient(load_openssl(), bytes(32), IDENTITY)
    with reference_server() as address, pytest.raises(PeerProgramError, match="handshake failed"):
        client.connect(address)
    client.close()


def test_works_take_turns_and_the_first_turn_is_thrown_away():
    order = []

    def work(name: str) -> float:
        order.append(name)
        return len(order)

    samples = take_turns(Plan(rounds=2), 2, [lambda: work("a"), lambda: work("b")])
    assert "".join(order) == "aabbaabbaabb"
    assert samples == [[5, 6, 9, 10], [7, 8, 11, 12]]


def test_a_figure_is_the_median_and_the_95th_percentile():
    measured = figure("x", list(range(101)))
    assert (measured.value, measured.p95, measured.samples) == (50, 95, 101)


def test_a_report_is_one_json_document_with_a_ratio_in_each_row():
    row = Row("a", "work", "ms", Figure("us", 3.0), (Figure("them", 2.0),), "less", met=False)
    alone = Row("b", "work", "s", Figure("us", 3.0), (), "less", met=True)
    document = json.loads(json.dumps(Report("OpenSSL", 2, [row, alone]).to_json()))
    assert document["format"] == 1
    assert [line["ratio"] for line in document["rows"]] == [1.5, None]
    assert document["rows"][0]["references"][0]["what"] == "them"


def test_the_table_says_what_a_node_adds_to_an_apdu():
    row = Row(
        "a", "work", "ms", Figure("us", 40.4), (Figure("them", 40.0),), "less", met=False,
        added=Added(2, 0.2, 1.0),
    )  # fmt: skip
    assert _cells(row)[-1] == "less: missed, 0.2 ms an APDU, 1 %"


@pytest.mark.timeout(90)  # six nodes are started, one after the other
def test_every_row_is_measured_on_this_machine():
    plan = Plan(rounds=1, repetitions=2, clients=2, elements=2, seconds=0.1, crowd=3)
    notices = []
    document = json.loads(json.dumps(run(plan, notices.append).to_json()))
    rows = {row["id"]: row for row in document["rows"]}
    assert list(rows) == [
        "handshake", "command", "signature", "racs_list", "racs_apdu",
        "reader_command", "reader_apdu", "rate", "memory", "restart", "sessions",
    ]  # fmt: skip
    assert rows["sessions"]["ours"]["value"] == 2
    assert all(row["ours"]["value"] > 0 for row in rows.values() if row["id"] != "memory")
    for name in ("reader_command", "reader_apdu"):
        row = rows[name]
        ours, reader = row["ours"]["value"], row["references"][0]["value"]
        assert reader >= READER_MS * row["added"]["apdus"]
        assert row["added"]["ms"] == pytest.approx((ours - reader) / row["added"]["apdus"])
        assert row["added"]["percent"] == pytest.approx(100 * (ours - reader) / reader)
    assert rows["command"]["added"] is None
    assert len(notices) == 7
