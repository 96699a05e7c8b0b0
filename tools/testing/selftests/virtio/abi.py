#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The export lists of the core modules and the transport, against those of their C twins in the same kernel.

# guest release: --kernel release
# guest debug: --kernel debug
"""

from pathlib import Path

from guest import kernel, ksft, paths
from guest.run import Config

# What a trace event exports: functions of the rings are inlined into the crates above.
TRACE_EVENT = ("__tracepoint_", "__traceiter_", "__SCK__tp_func_", "__SCT__tp_func_")
# Rust symbols are exported too, for our own modules only.
OWN = ("_R", "rust_helper_", *(f"{kind}virtio_" for kind in TRACE_EVENT))


def exports(symvers: Path, module: str) -> dict[str, tuple[str, str]]:
    """Symbols that MODULE (a path without .ko, or its last part) exports: kind of export, and namespace."""
    found = {}
    for line in symvers.read_text().splitlines():
        _crc, symbol, owner, kind, namespace = line.split("\t")
        if Path(owner).name == module and not symbol.startswith(OWN):
            found[symbol] = (kind, namespace)
    return found


def same_exports(config: Config, module: str) -> None:
    """Nothing is missing, nothing is more, and licence and namespace are the same."""
    c = exports((config.kdir or kernel.cached(config.kernel)) / "Module.symvers", module)
    ours = exports((config.modules or paths.module_dir(config.kernel)) / "Module.symvers", module)
    assert c, f"the kernel's {module} exports nothing: nothing was compared"
    print(f"# {module}: {len(c)} symbols in C, {len(ours)} of them or others here")
    missing = sorted(c.keys() - ours.keys())
    assert not missing, f"missing: {' '.join(missing)}"
    more = sorted(ours.keys() - c.keys())
    assert not more, f"not in C: {' '.join(more)}"
    other = sorted(symbol for symbol in c if c[symbol] != ours[symbol])
    assert not other, f"exported differently: {' '.join(f'{name} {c[name]} {ours[name]}' for name in other)}"


def virtio_ring(config: Config) -> None:
    """virtio_ring.ko."""
    same_exports(config, "virtio_ring")


def virtio(config: Config) -> None:
    """virtio.ko."""
    same_exports(config, "virtio")


def virtio_pci(config: Config) -> None:
    """virtio_pci.ko."""
    same_exports(config, "virtio_pci")


if __name__ == "__main__":
    ksft.run(virtio_ring, virtio, virtio_pci)
