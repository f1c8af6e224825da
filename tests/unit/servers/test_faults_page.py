# SPDX-License-Identifier: Apache-2.0
"""The pages of faults and of RACS name tests that exist; each reason to end a session has a row."""

import re

from iose.bridge.stream import EndReason
from tests.support.shared import REPOSITORY

PAGE = (REPOSITORY / "docs" / "faults.md").read_text()
SOURCES = {
    "F": "tests/unit/servers/test_front_faults.py",
    "L": "tests/unit/servers/test_front_limits.py",
    "H": "tests/unit/servers/test_element_host.py",
    "R": "tests/interop/front/test_real_elements.py",
    "O": "tests/interop/front/test_openssl.py",
    "A": "tests/unit/servers/racs/test_locks.py",
    "S": "tests/unit/servers/racs/test_limits.py",
    "C": "tests/unit/servers/racs/test_commands.py",
    "U": "tests/unit/servers/racs/test_audit.py",
    "K": "tests/interop/racs/test_element_hosts.py",
    "N": "tests/interop/node/test_administration.py",
    "B": "tests/acceptance/test_both_planes.py",
    "W": "tests/acceptance/test_cuts_over_racs.py",
    "G": "tests/acceptance/test_guesses_over_racs.py",
}
RACS_SOURCES = {
    **{letter: SOURCES[letter] for letter in "NBCA"},
    "O": "tests/interop/racs/test_openssl.py",
    "F": "tests/unit/servers/racs/test_firewall.py",
    "R": "tests/unit/servers/racs/test_rights.py",
}
READERS = {
    "Elements of another node": {
        "B": "tests/unit/transport/test_racs_bank.py",
        "P": "tests/unit/transport/test_racs_pool.py",
        "C": "tests/unit/transport/test_racs_client.py",
        "N": "tests/acceptance/test_two_nodes.py",
        "T": "tests/acceptance/test_two_nodes_twin.py",
    },
    "SIM arrays, serial boards, RACS Lite boards": {
        "A": "tests/interop/readers/test_sim_array.py",
        "S": "tests/interop/readers/test_serial_line.py",
        "L": "tests/interop/readers/test_racsl_board.py",
        "K": "tests/unit/transport/test_slot_keeper.py",
        "P": "tests/unit/transport/test_serial_port.py",
    },
    "Devices on an I2C bus": {
        "I": "tests/interop/i2c/test_faults.py",
        "D": "tests/unit/transport/i2c/test_bank.py",
        "K": "tests/unit/transport/i2c/test_bank_faults.py",
        "X": "tests/unit/transport/i2c/test_linux.py",
        "E": "tests/unit/protocols/test_i2c_exchange.py",
        "P": "tests/unit/protocols/test_i2c_blocks.py",
        "N": "tests/acceptance/test_i2c_bus.py",
    },
}
"""Letters of each part of the section on readers, by its heading."""
POINTS_OF_RACS = 11  # racs.md §17


def rows_of(page):
    """Return the rows of tables, without their heads, and what the letters in them stand for."""
    sources = SOURCES
    for line in page.splitlines():
        if line.startswith("#"):
            sources = READERS.get(line.lstrip("# "), SOURCES)
        elif line.startswith("| ") and not line.startswith("| fault |"):
            yield line, sources


def test_every_row_names_tests_that_exist():
    rows = list(rows_of(PAGE))
    assert len(rows) > 30
    for row, sources in rows:
        named = re.findall(r"([A-Z]) `(test_\w+)`", row)
        assert named or "test_tls_front.py" in row, row
        for letter, name in named:
            assert letter in sources, row
            source = (REPOSITORY / sources[letter]).read_text()
            assert f"def {name}(" in source, name


def test_every_part_on_readers_is_on_the_page():
    assert [name for name in READERS if f"\n### {name}\n" not in PAGE] == []


def test_every_point_of_racs_names_tests_that_exist():
    page = (REPOSITORY / "docs" / "racs.md").read_text().partition("## What holds it to this")[2]
    rows = [row for row in page.splitlines() if row.startswith("| ") and "| point |" not in row]
    assert len(rows) == POINTS_OF_RACS
    for row in rows:
        named = re.findall(r"([ONBCAFR]) `(test_\w+)`", row)
        assert named, row
        for letter, name in named:
            assert f"def {name}(" in (REPOSITORY / RACS_SOURCES[letter]).read_text(), name


def test_every_reason_has_a_row():
    assert [reason.value for reason in EndReason if f"`{reason.value}`" not in PAGE] == []


def test_every_fault_test_has_a_row():
    names = re.findall(r"def (test_\w+)\(", (REPOSITORY / SOURCES["F"]).read_text())
    assert [name for name in names if f"`{name}`" not in PAGE] == [
        "test_element_slower_than_the_idle_limit_is_waited_for"
    ]
