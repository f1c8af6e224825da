# SPDX-License-Identifier: Apache-2.0
"""The one door to cryptography: Protocols in ``base``, the implementation in ``pyca``."""
