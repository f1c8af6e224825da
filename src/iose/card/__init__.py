# SPDX-License-Identifier: Apache-2.0
"""The card operating system: selection, channels, dispatch, chaining, refusals."""
