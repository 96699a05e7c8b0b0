# SPDX-License-Identifier: GPL-2.0
"""Tools for the machines that the modules run on: lsvirtio and virtio-report, each one file."""
