# SPDX-License-Identifier: Apache-2.0
"""The keystore: an application of text commands behind the TLS session of an element."""

from iose.applets.tls_se.keystore.interpreter import Keystore

__all__ = ["Keystore"]
