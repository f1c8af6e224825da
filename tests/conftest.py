# SPDX-License-Identifier: Apache-2.0
"""Settings every test shares."""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

# Machines that run the suite are slow and shared: no example may fail for taking its time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

# Tests neither see nor touch the cards of the machine: libpcsclite asks the service of this
# process, where there is one (tests/support/virtual_card.py). It reads the variable once.
os.environ["PCSCLITE_CSOCK_NAME"] = str(
    Path(tempfile.gettempdir()) / f"iose-pcscd-{os.getpid()}.comm"
)
