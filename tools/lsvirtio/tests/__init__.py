# SPDX-License-Identifier: GPL-2.0
"""Tests of these tools, without a guest."""
