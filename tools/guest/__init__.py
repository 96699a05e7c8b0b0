# SPDX-License-Identifier: GPL-2.0
"""The guest: its kernel, its root, its devices, and the one way to start it."""
