# SPDX-License-Identifier: Apache-2.0
"""The one composition root: builds cards, readers and servers."""
