# SPDX-License-Identifier: Apache-2.0
"""Readers of a node: their settings, the banks made of them, and what elements they have."""
