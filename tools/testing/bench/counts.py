# SPDX-License-Identifier: GPL-2.0
"""What plugin/count.c wrote, summed per module, per function, and per kind of call."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bench.symbols import KERNEL, USER, Table

# Modules whose instructions are the driver stack's.  The C transport is three modules.
GROUPS = {
    "virtio_ring": "ring",
    "virtio": "core",
    "virtio_pci": "pci",
    "virtio_pci_modern_dev": "pci",
    "virtio_pci_legacy_dev": "pci",
}

# Functions whose entries are counted, by kind.  Of each call only one function of a kind is entered.
CALLS = {
    "alloc": re.compile(
        r"^(__kmalloc_noprof|__kmalloc_node_noprof|__kmalloc_cache_noprof|__kmalloc_cache_node_noprof"
        r"|__kmalloc_large_noprof|kmem_cache_alloc_noprof|kmem_cache_alloc_node_noprof|kmem_cache_alloc_lru_noprof"
        r"|__kvmalloc_node_noprof|krealloc_node_align_noprof|__kmalloc_node_track_caller_noprof"
        r"|kmem_cache_alloc_bulk_noprof|__alloc_frozen_pages_noprof|mempool_alloc_noprof)$"
    ),
    "copy": re.compile(r"^(__memcpy|memcpy|__memmove|memmove|__memset|memset|_copy_to_iter|_copy_from_iter)$"),
    "map": re.compile(
        r"^(dma_map_page_attrs|dma_map_phys|dma_map_sg_attrs|dma_unmap_page_attrs|dma_unmap_phys"
        r"|dma_unmap_sg_attrs|dma_alloc_attrs|dma_free_attrs)$"
    ),
    "lock": re.compile(
        r"^(_raw_spin_lock|_raw_spin_lock_irq|_raw_spin_lock_irqsave|_raw_spin_lock_bh|_raw_spin_trylock|mutex_lock)$"
    ),
}


@dataclass
class Counts:
    """One region: exclusive instructions by (module, function), and entries of functions."""

    instructions: Counter[tuple[str, str]] = field(default_factory=Counter)
    entries: Counter[tuple[str, str]] = field(default_factory=Counter)
    rep: int = 0

    def module(self, name: str) -> int:
        """Instructions in module NAME."""
        return sum(count for (module, _), count in self.instructions.items() if module == name)

    def group(self, name: str, driver: frozenset[str]) -> int:
        """Instructions in group NAME; DRIVER are the modules of group `driver`."""
        return sum(count for (module, _), count in self.instructions.items() if group(module, driver) == name)

    def calls(self, kind: str) -> int:
        """Entries of functions of KIND, whoever calls."""
        pattern = CALLS[kind]
        return sum(count for (module, name), count in self.entries.items() if module == KERNEL and pattern.match(name))

    def rust_in_kernel(self) -> int:
        """Instructions of Rust functions in vmlinux: what modules call of the kernel crate."""
        return sum(
            count for (module, name), count in self.instructions.items() if module == KERNEL and name.startswith("_R")
        )

    def total(self) -> int:
        """All instructions, user space too; iterations of repeated string instructions are not among them."""
        return sum(self.instructions.values())


def group(module: str, driver: frozenset[str]) -> str | None:
    """The group that MODULE is counted in, None for the rest of the system."""
    return "driver" if module in driver else GROUPS.get(module)


def regions(lines: Iterable[str], table: Table) -> Iterator[Counts]:
    """The regions in LINES of the plugin's file, in order."""
    counts: Counts | None = None
    for line in lines:
        words = line.split()
        if words and words[0] == "region":
            if counts is not None:
                yield counts
            counts = Counts()
            continue
        if len(words) != 4 or counts is None:
            raise ValueError(f"not a line of the plugin's: {line!r}")
        _add(counts, table, words)
    if counts is not None:
        yield counts


def _add(counts: Counts, table: Table, words: list[str]) -> None:
    address, size, entries, rep = int(words[0], 16), int(words[1]), int(words[2]), words[3]
    if rep == "1":
        counts.rep += entries
        return
    symbol = table.find(address)
    key = (USER, USER) if not address else (symbol.module, symbol.name)
    counts.instructions[key] += size * entries
    if address and address == symbol.address:
        counts.entries[key] += entries


def log_counts(lines: Iterable[str], events: dict[str, str]) -> Iterator[Counter[str]]:
    """Trace events per region in LINES of QEMU's log; EVENTS maps an event to its metric."""
    counts: Counter[str] | None = None
    for line in lines:
        words = line.split(maxsplit=2)
        if len(words) < 2:
            continue
        if words[0] == "bench_region":
            if words[1] == "begin":
                counts = Counter()
            elif counts is not None:
                yield counts
                counts = None
        elif counts is not None and words[0] in events:
            counts[events[words[0]]] += 1
