# SPDX-License-Identifier: Apache-2.0
"""The outside world: entropy, clocks, files, processes, and the composition root."""
