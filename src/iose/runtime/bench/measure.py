# SPDX-License-Identifier: Apache-2.0
"""One run of all measurements; nothing is left running and no file stays."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from iose.runtime.bench.administration import administration_rows
from iose.runtime.bench.many_clients import crowd_rows, rate_row
from iose.runtime.bench.one_client import one_client_rows
from iose.runtime.bench.openssl_client import load_openssl, openssl_version
from iose.runtime.bench.plan import Plan
from iose.runtime.bench.programs import cores, running_node
from iose.runtime.bench.readers import reader_rows
from iose.runtime.bench.report import Report


def run(plan: Plan, notify: Callable[[str], None]) -> Report:
    """Return what was measured.

    Args:
        plan: How much to measure.
        notify: Called with what is about to be measured.

    Raises:
        PeerProgramError: OpenSSL is missing, the node did not start, or a session failed.
        OSError: A connection was refused.
    """
    library = load_openssl()
    report = Report(openssl_version(library), cores())
    with tempfile.TemporaryDirectory(prefix="iose-bench-") as name:
        folder = Path(name)
        with running_node(folder / "first", 1) as node:
            report.rows.extend(one_client_rows(library, node, plan, notify))
            report.rows.extend(administration_rows(node, plan, notify))
        report.rows.extend(reader_rows(folder / "reader", plan, notify))
        notify(f"handshakes of {plan.clients} clients")
        with running_node(folder / "many", plan.elements) as node:
            report.rows.append(rate_row(library, node, plan))
        notify(f"a node of {plan.crowd} elements")
        report.rows.extend(crowd_rows(library, folder, plan))
    return report
