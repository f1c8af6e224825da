# SPDX-License-Identifier: Apache-2.0
"""The administration plane: RACS sessions, rights, locks, and the audit of what they did."""
