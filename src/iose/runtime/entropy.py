# SPDX-License-Identifier: Apache-2.0
"""Random bytes of the operating system, for everything that takes an ``Rng``."""

import os


class OsRng:
    """``Rng`` over the kernel's generator."""

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""
        return os.urandom(count)
