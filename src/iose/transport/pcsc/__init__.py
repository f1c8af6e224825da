# SPDX-License-Identifier: Apache-2.0
"""Cards in the PC/SC readers of this machine (iose-server.md §8.1).

A bank has one thread that waits for readers and cards to come and go, and each reader in use has
a thread of its own for what blocks: a card that never answers stops nobody else. pyscard, the
extra ``iose[pcsc]``, is imported when a bank starts.
"""

from iose.transport.pcsc.bank import PcscBank

__all__ = ["PcscBank"]
