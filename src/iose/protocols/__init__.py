# SPDX-License-Identifier: Apache-2.0
"""Codecs and state of the application protocols, without sockets."""
