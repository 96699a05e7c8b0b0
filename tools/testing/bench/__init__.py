# SPDX-License-Identifier: GPL-2.0
"""The scales: what the Rust stack costs, beside what the C stack costs."""
