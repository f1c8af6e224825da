# SPDX-License-Identifier: Apache-2.0
"""Our own card in the same process, for tests and for programs without a node."""
