# SPDX-License-Identifier: Apache-2.0
"""How an APDU reaches a card: readers and connections."""
