# SPDX-License-Identifier: GPL-2.0
"""Sphinx configuration: plain reStructuredText, no extension, nothing fetched."""

project = "rust-virtio"
author = "The rust-virtio authors"
project_copyright = author

root_doc = "virtio/index"
exclude_patterns = ["_build"]

html_theme = "alabaster"
html_theme_options = {"description": "The Linux virtio guest stack in Rust", "page_width": "72em"}
html_show_sourcelink = False
highlight_language = "none"
nitpicky = True
