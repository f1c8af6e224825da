# SPDX-License-Identifier: Apache-2.0
"""The command line: parse arguments, print results and hints, decide nothing."""
