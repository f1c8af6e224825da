# SPDX-License-Identifier: Apache-2.0
"""The web view of readers, sessions and traces."""
