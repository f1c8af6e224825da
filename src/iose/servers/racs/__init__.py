# SPDX-License-Identifier: Apache-2.0
"""The administration plane: RACS over TLS with certificates, with rights, locks and audit.

Nothing is named here: who checks a rule or writes the audit log need not load a server.
"""
