# SPDX-License-Identifier: Apache-2.0
"""Element URIs and the sessions they open, blocking and asyncio."""
