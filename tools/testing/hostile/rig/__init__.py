# SPDX-License-Identifier: GPL-2.0
"""The rig around the lying device: scenarios, guests, verdicts."""
