# SPDX-License-Identifier: GPL-2.0
"""The tables of the checker: layers from the bottom up, and the places where unsafe may be.

They repeat Documentation/virtio/architecture.rst in a form that a program can hold a tree to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a crate may do, beside importing from below."""

    PURE = "pure crate"
    CORE = "core crate"
    LEAF = "leaf driver"


@dataclass(frozen=True)
class Crate:
    """One crate: where it is, which names Rust code calls it by, and how high it stands."""

    path: str
    name: str
    rank: int
    kind: Kind

    def holds(self, path: str) -> bool:
        """Whether the file at `path` belongs to the crate."""
        return path == self.path + ".rs" or path.startswith(self.path + "/")

    def is_root(self, path: str) -> bool:
        """Whether the file at `path` is the crate's root module."""
        return path in (f"{self.path}.rs", f"{self.path}/{self.name}.rs", f"{self.path}/lib.rs")


def _abstraction(name: str) -> Crate:
    return Crate(f"rust/abstractions/{name}", name, 5, Kind.CORE)


# From the bottom up. A crate may name crates of a lower rank, and never one of its own.
CRATES = (
    Crate("rust/virtio_spec", "virtio_spec", 0, Kind.PURE),
    Crate("rust/virtqueue", "virtqueue", 1, Kind.PURE),
    Crate("rust/virtio_bindings", "virtio_bindings", 2, Kind.CORE),
    Crate("rust/virtio_ring", "virtio_ring", 3, Kind.CORE),
    Crate("rust/virtio", "virtio", 4, Kind.CORE),
    _abstraction("block_mq"),
    _abstraction("netdev"),
    _abstraction("hw_random"),
    _abstraction("balloon"),
    _abstraction("pci_ext"),
    Crate("drivers/virtio/virtio_pci", "virtio_pci", 6, Kind.CORE),
    Crate("drivers/virtio/virtio_balloon", "virtio_balloon", 7, Kind.LEAF),
    Crate("drivers/block/virtio_blk", "virtio_blk", 7, Kind.LEAF),
    Crate("drivers/net/virtio_net", "virtio_net", 7, Kind.LEAF),
    Crate("drivers/char/hw_random/virtio_rng", "virtio_rng", 7, Kind.LEAF),
    Crate("samples/rust/rust_virtio_minimal", "rust_virtio_minimal", 7, Kind.LEAF),
)

# Kernel Rust lives here; a Rust file here that no crate above holds is a finding.
KERNEL_DIRECTORIES = ("rust/", "drivers/", "samples/")

# What pure crates may name beside pure crates below them.
PURE_FOREIGN = frozenset({"core", "zerocopy", "zerocopy_derive"})

# Crates that are not ours but that a rule is about.
FOREIGN = frozenset(
    {
        "alloc",
        "bindings",
        "build_error",
        "core",
        "ffi",
        "kernel",
        "macros",
        "pin_init",
        "proc_macro",
        "std",
        "uapi",
        "zerocopy",
        "zerocopy_derive",
    }
)

# What leaf drivers may not name: raw C interfaces are for the layers below.
BINDING_PATHS = (
    ("virtio_bindings",),
    ("bindings",),
    ("uapi",),
    ("kernel", "bindings"),
    ("kernel", "uapi"),
)

# The only places where kernel Rust may say unsafe: directories end in a slash.
UNSAFE_FENCE = (
    "rust/virtio_bindings.rs",
    "rust/bindings/",
    "rust/helpers/",
    "rust/virtio_ring/",
    "rust/abstractions/",
    "drivers/virtio/virtio_pci/",
    "drivers/virtio/virtio_pci.rs",
    # virtio: one row a file, so that a new file is safe until somebody says otherwise.
    "rust/virtio/buffer.rs",  # lends memory to a queue
    "rust/virtio/bus.rs",  # callbacks of the driver core
    "rust/virtio/capi.rs",  # the C ABI
    "rust/virtio/commands.rs",  # struct virtqueue, with commands
    "rust/virtio/commands/command.rs",  # completions, and lists for the ring
    "rust/virtio/commands/memory.rs",  # memory that the device keeps after a deadline
    "rust/virtio/debugfs.rs",  # file operations
    "rust/virtio/device.rs",  # struct virtio_device
    "rust/virtio/driver.rs",  # struct virtio_driver
    "rust/virtio/fake.rs",  # rings as the device of a KUnit test sees them
    "rust/virtio/fake/requests.rs",  # chains as it sees them, requests and packets with pages
    "rust/virtio/queue.rs",  # struct virtqueue
    "rust/virtio/ops.rs",  # callbacks of struct virtio_driver
    "rust/virtio/packets.rs",  # struct virtqueue, with packets
    "rust/virtio/recovery.rs",  # work items
    "rust/virtio/requests.rs",  # struct virtqueue, with requests
    "rust/virtio/requests/any.rs",  # mappings, and memory shared with the device
    "rust/virtio/requests/request.rs",  # the contract of requests
    "rust/virtio/requests/slot.rs",  # memory shared with the device
    "rust/virtio/sysfs.rs",  # attribute callbacks
    "rust/virtio/tests.rs",  # binds and unbinds for KUnit
    "rust/virtio/tests/c_driver.rs",  # a struct virtio_driver made by hand
    "rust/virtio/transport.rs",  # struct virtio_config_ops
)

# Files whose whole text is made by bindgen, so that lints cannot apply to single items.
ALLOW_ATTRIBUTE = ("rust/virtio_bindings.rs",)

# The file name of the C ABI, the only place for symbols that C links against.
C_ABI_FILE = "capi.rs"

# Longest file that a reader is asked to read, in lines.
MAX_LINES = 800


def crate_of(path: str) -> Crate | None:
    """The crate that holds the file at `path`, the longest match if several do."""
    holding = [crate for crate in CRATES if crate.holds(path)]
    return max(holding, key=lambda crate: len(crate.path), default=None)


def crate_named(name: str) -> Crate | None:
    """The crate that Rust code calls `name`."""
    return next((crate for crate in CRATES if crate.name == name), None)


def is_kernel_rust(path: str) -> bool:
    """Whether the file at `path` is compiled into a kernel module."""
    return path.endswith(".rs") and path.startswith(KERNEL_DIRECTORIES)


def may_be_unsafe(path: str) -> bool:
    """Whether the file at `path` is inside the fence."""
    return any(path.startswith(place) if place.endswith("/") else path == place for place in UNSAFE_FENCE)
