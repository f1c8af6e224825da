# SPDX-License-Identifier: Apache-2.0
"""The client role: one class per waiting state."""
