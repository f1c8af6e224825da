# SPDX-License-Identifier: Apache-2.0
"""Cursors over outside bytes and the root errors; imports nothing of ours."""
