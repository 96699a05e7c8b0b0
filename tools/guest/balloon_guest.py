# SPDX-License-Identifier: GPL-2.0
"""A guest with one balloon, and what both sides say of it.

No test by itself: balloon.py and its like use it.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

MIB = 1 << 20
PAGE = 4096
# Seconds until something has happened: the debug kernel under TCG, on a busy host.
PATIENCE = 120
DEVICE = {"driver": "virtio-balloon-pci", "id": "balloon0", "bus": "port0"}
# The PCI command register, with bus mastering and without, and where it is.
MASTER, NO_MASTER, COMMAND = "007", "003", 4


@dataclass
class World:
    """A guest with a shell, and one balloon."""

    guest: Guest
    shell: Shell
    rust: bool
    # Bytes that the guest has without the balloon.
    memory: int

    def number(self, file: str, name: str) -> int:
        """The number behind NAME in FILE of /proc."""
        return int(self.shell(f"awk '$1 == \"{name}\" {{ print $2 }}' /proc/{file}"))

    def holds(self, pages: int) -> None:
        """Wait until the guest says that it has PAGES in the balloon: each processor counts for itself at first."""
        self.shell.wait(f"grep -qx 'nr_balloon_pages {pages}' /proc/vmstat", PATIENCE)

    def total(self) -> int:
        """Bytes that the guest thinks that it has."""
        return self.number("meminfo", "MemTotal:") << 10

    def actual(self) -> int:
        """Bytes that the host thinks that the guest has."""
        return int(self.guest.qmp().command("query-balloon")["actual"])

    def wants(self, taken: int) -> None:
        """The host wants TAKEN bytes."""
        self.guest.qmp().command("balloon", value=self.memory - taken)

    def has(self, taken: int) -> None:
        """Wait until the host has TAKEN bytes, as both sides say."""
        deadline = time.monotonic() + PATIENCE
        while (actual := self.actual()) != self.memory - taken:
            assert time.monotonic() < deadline, f"the guest has {actual}, not {self.memory - taken}"
            time.sleep(0.1)
        self.holds(taken // PAGE)

    def takes(self, taken: int) -> None:
        """Have the host have TAKEN bytes."""
        self.wants(taken)
        self.has(taken)

    def statistics(self) -> dict[str, int]:
        """What the driver in Rust shows in debugfs."""
        names, numbers = self.shell("cat /sys/kernel/debug/virtio/virtio*/statistics").splitlines()
        return dict(zip(names.split(), map(int, numbers.split()), strict=True))

    def set_command(self, value: str) -> None:
        """Write VALUE, in octal, to the PCI command register of the device."""
        function = "$(readlink -f /sys/bus/virtio/devices/virtio*)/../config"
        self.shell(f"printf '\\{value}' | dd of={function} bs=1 seek={COMMAND} conv=notrunc 2>/dev/null")

    def resident(self) -> int:
        """Bytes of the host's memory that QEMU has for the guest's."""
        size, found = 0, []
        for line in Path(f"/proc/{self.guest.machine.process.pid}/smaps").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Size":
                size = int(rest.split()[0])
            elif name == "Rss" and size << 10 == self.memory:
                found.append(int(rest.split()[0]))
        assert len(found) == 1, f"{len(found)} mappings are as large as the guest's memory"
        return found[0] << 10

    def fill(self, size: int) -> None:
        """Write SIZE bytes to memory of the guest."""
        self.shell("mkdir -p /burst && mountpoint -q /burst || mount -t tmpfs -o size=100% none /burst")
        # No zeroes: whoever moves the guest would leave them out.
        self.shell("[ -e /burst.mib ] || yes burst | head -c 1048576 >/burst.mib")
        self.shell(f"for _ in $(seq {size // MIB}); do cat /burst.mib; done >/burst/file")
        assert int(self.shell("stat -c %s /burst/file")) == size, "there was not so much memory"

    def burst(self, size: int) -> None:
        """Write SIZE bytes to memory of the guest, and free it."""
        self.fill(size)
        self.shell("rm /burst/file")


@contextlib.contextmanager
def guest_with(config: Config, options: str) -> Iterator[World]:
    """A guest whose balloon has OPTIONS, which are QEMU's; behind an IOMMU, if the guest has one."""
    config.default_devices = False
    if "intel_iommu=on" in config.append:
        config.qemu_args += ["-device", "intel-iommu"]
        config.append = [*config.append, "iommu.strict=1"]
        options += ",iommu_platform=on,disable-legacy=on"
    config.qemu_args += ["-device", "pcie-root-port,id=port0,bus=pcie.0,chassis=0,slot=0"]
    device = ",".join(value if key == "driver" else f"{key}={value}" for key, value in DEVICE.items())
    config.qemu_args += ["-device", f"{device},{options}"]
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        shell.wait("[ -e /sys/module/virtio_balloon/taint ]", PATIENCE)
        rust = shell("cat /sys/module/virtio_balloon/taint") == "O"
        yield World(guest, shell, rust, int(config.memory) * MIB)
        shell.start("exit")
        ksft.passed(guest)
