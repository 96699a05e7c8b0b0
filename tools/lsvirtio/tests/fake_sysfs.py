# SPDX-License-Identifier: GPL-2.0
"""A sysfs and a debugfs of files, for the tests of lsvirtio."""

import os
from pathlib import Path

QUEUES = "index name size num_free layout indirect event_idx broken adds kicks notifications interrupts used"
BUSES = {"pci": "virtio-pci", "platform": "virtio-mmio", "vdpa": "virtio_vdpa"}


class FakeSysfs:
    """The tree below ROOT, to which devices, modules and interrupts are added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bus/virtio/devices").mkdir(parents=True)
        (root / "kernel/debug/block").mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        """A file NAME with TEXT and a newline."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if text else "")

    def link(self, name: str, target: str) -> None:
        """A symbolic link NAME to TARGET, which is made if it is not there."""
        path, end = self.root / name, self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        end.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(end, path.parent))

    def module(self, name: str, taint: str = "") -> None:
        """A module that is loaded."""
        self.write(f"module/{name}/initstate", "live")
        self.write(f"module/{name}/taint", taint)
        self.write(f"module/{name}/srcversion", "0123456789ABCDEF")

    def device(
        self, name: str, type_: int, bits: list[int], *, driver: str = "", status: int = 0xF, bus: str = "pci", at: str
    ) -> None:
        """A device with the features BITS, behind the device AT of BUS."""
        parent = f"devices/{at}"
        path = f"{parent}/{name}"
        features = "".join("1" if bit in bits else "0" for bit in range(128))
        self.write(f"{path}/device", f"0x{type_:04x}")
        self.write(f"{path}/vendor", "0x1af4")
        self.write(f"{path}/status", f"0x{status:08x}")
        self.write(f"{path}/features", features)
        self.link(f"bus/virtio/devices/{name}", path)
        if not (self.root / parent / "subsystem").exists():
            self.link(f"{parent}/subsystem", f"bus/{bus}")
            self.bind(parent, bus, BUSES[bus], BUSES[bus].replace("-", "_"))
            if bus == "pci":
                self.write(f"{parent}/vendor", "0x1af4")
                self.write(f"{parent}/device", f"0x{0x1040 + type_:04x}")
        if driver:
            self.bind(path, "virtio", driver, driver)

    def bind(self, device: str, bus: str, driver: str, module: str) -> None:
        """Bind DEVICE to DRIVER, which belongs to MODULE if that is loaded."""
        self.link(f"{device}/driver", f"bus/{bus}/drivers/{driver}")
        owner = self.root / f"bus/{bus}/drivers/{driver}/module"
        if (self.root / "module" / module / "initstate").exists() and not owner.is_symlink():
            self.link(f"bus/{bus}/drivers/{driver}/module", f"module/{module}")

    def irq(self, number: int, names: str, counts: str = "0,0", cpus: str = "") -> None:
        """An interrupt; CPUS as the debugfs of interrupts has them, if it is to be there."""
        self.write(f"kernel/irq/{number}/actions", names)
        self.write(f"kernel/irq/{number}/per_cpu_count", counts)
        if cpus:
            self.write(f"kernel/debug/irq/irqs/{number}", f"handler:  h\n affinity: 0-1\neffectiv: {cpus}\n domain:  d")

    def queues(self, name: str, *rows: str, header: str = QUEUES) -> None:
        """The table of queues of the device NAME."""
        self.write(f"kernel/debug/virtio/{name}/queues", "\n".join((header, *rows)))

    def offered(self, name: str, bits: list[int], filtered: tuple[int, ...] = ()) -> None:
        """The files of the feature filter of the device NAME."""
        self.write(f"kernel/debug/virtio/{name}/device_features", "\n".join(map(str, bits)))
        self.write(f"kernel/debug/virtio/{name}/filter_features", "\n".join(map(str, filtered)))


def rust_stack(root: Path) -> FakeSysfs:
    """A disk with two queues and an entropy device, all of it Rust, and a C console."""
    fake = FakeSysfs(root)
    for module in ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_rng"):
        fake.module(module, "O")
    fake.module("virtio_console")
    fake.device("virtio0", 2, [2, 9, 12, 28, 29, 32, 34], driver="virtio_blk", at="pci0000:00/0000:00:02.0")
    fake.offered("virtio0", [2, 9, 12, 13, 28, 29, 32, 34, 40, 99], (13,))
    row = "0 req.0 256 250 packed 1 1 0 1000 40 30 25 994"
    fake.queues("virtio0", row, "1 req.1 256 256 packed 1 1 1 0 0 0 0 0")
    fake.write("kernel/debug/virtio/virtio0/statistics", "index timeouts resets\n0 2 1\n1 0 1")
    fake.irq(24, "virtio0-config", "1,0", "0-1")
    fake.irq(25, "virtio0-req.0", "20,5", "0")
    fake.irq(26, "virtio0-req.1", "0,0", "1")
    for queue in (0, 1):
        fake.write(f"devices/pci0000:00/0000:00:02.0/virtio0/block/vda/mq/{queue}/cpu_list", str(queue))
    fake.device("virtio10", 4, [28, 29, 32], driver="virtio_rng", at="pci0000:00/0000:00:03.0")
    fake.offered("virtio10", [28, 29, 32])
    fake.queues("virtio10", "0 input 8 7 split 1 1 0 5 5 5 4 4")
    fake.irq(27, "virtio10-config", cpus="0")
    fake.irq(28, "virtio10-virtqueues", cpus="0")
    fake.device("virtio2", 3, [0, 32], driver="virtio_console", at="pci0000:00/0000:00:04.0")
    fake.offered("virtio2", [0, 32])
    fake.queues("virtio2", "0 in_put 64 0 split 0 0 0 1 1 1 1 1", "1 - 64 64 split 0 0 0 0 0 0 0 0")
    fake.irq(29, "timer,virtio2", cpus="0")
    fake.irq(30, "eth0", cpus="0")
    return fake


def c_stack(root: Path) -> FakeSysfs:
    """The disk of the C stack."""
    fake = FakeSysfs(root)
    for module in ("virtio", "virtio_ring", "virtio_pci", "virtio_blk"):
        fake.module(module)
    fake.device("virtio0", 2, [9, 32, 35], driver="virtio_blk", at="pci0000:00/0000:00:02.0")
    fake.offered("virtio0", [9, 32, 35])
    fake.irq(24, "virtio0-config")
    fake.irq(25, "virtio0-req.0", "20,5")
    return fake
