# SPDX-License-Identifier: Apache-2.0
"""Asyncio servers: listen, shuttle, time out, log."""
