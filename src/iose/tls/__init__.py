# SPDX-License-Identifier: Apache-2.0
"""The sans-IO TLS engine; it runs just as well without any card."""
