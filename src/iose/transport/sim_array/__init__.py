# SPDX-License-Identifier: Apache-2.0
"""A SIM array over TCP, as readers: one slot per card, one connection per session (§8.3)."""

from iose.transport.sim_array.bank import SimArrayBank

__all__ = ["SimArrayBank"]
