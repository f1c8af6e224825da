# SPDX-License-Identifier: Apache-2.0
"""The server role: one class per waiting state."""
