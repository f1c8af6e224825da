# SPDX-License-Identifier: Apache-2.0
"""TLS endpoints inside secure elements, reachable by URIs."""
