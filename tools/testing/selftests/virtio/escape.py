#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What the admin guide says of ways out: words on the kernel's command line, an old initramfs, and back to C.

# guest *: --timeout 300
# guest release: --kernel release
# long debug: --kernel debug --timeout 900
"""

import re

from guest import kernel, ksft, paths
from guest.ksft import Shell
from guest.run import Config, Guest

GUIDE = paths.TOP / "Documentation/virtio/admin-guide.rst"
LOADED = "ls -d /sys/module/virtio* | sed 's|.*/||'"
# Where the texts of refused modules are in the kernel, which our guests do not refuse.
REFUSALS = ("kernel/module/main.c", "kernel/module/signing.c", "security/security.c", "security/lockdown/lockdown.c")


def start(config: Config) -> Config:
    """CONFIG with an entropy device and a disk."""
    config.default_devices = False
    config.devices = ["rng", "blk"]
    Shell.prepare(config)
    return config


def words(shell: Shell, command: str) -> set[str]:
    """The words that COMMAND prints."""
    return set(shell(command).split())


def one_driver_is_left_out(config: Config) -> None:
    """modprobe.blacklist= keeps a driver from being loaded for its device, and not by its name."""
    config.append = [*config.append, "modprobe.blacklist=virtio_rng"]
    with Guest(start(config)) as guest:
        shell = Shell(guest)
        loaded = words(shell, LOADED)
        assert "virtio_blk" in loaded and "virtio_rng" not in loaded, loaded
        shell("modprobe virtio_rng && [ -e /sys/bus/virtio/drivers/virtio_rng/virtio0 ]")
        shell.start("exit")
        ksft.passed(guest)


def one_driver_is_refused(config: Config) -> None:
    """module_blacklist= keeps it from being loaded at all."""
    config.append = [*config.append, "module_blacklist=virtio_rng"]
    config.allow = [*config.allow, "Module virtio_rng is blacklisted"]
    with Guest(start(config)) as guest:
        shell = Shell(guest)
        shell("! modprobe virtio_rng && [ ! -d /sys/module/virtio_rng ] && [ -b /dev/vda ]")
        shell.start("exit")
        ksft.passed(guest)


def rust_drivers_do_not_load_on_the_c_core(config: Config) -> None:
    """With an old initramfs the core is C: the Rust drivers that come later are refused, and no harm is done."""
    config.stack = "c"
    with Guest(start(config)) as guest:
        shell = Shell(guest)
        shell("rmmod virtio_rng")
        for name in ("virtio-rng", "virtio_pci", "virtio"):
            shell(f"! insmod /lib/modules/rust/{name}.ko 2>/tmp/error")
            shell("cat /tmp/error")
        log = shell("dmesg | grep virtio")
        assert "virtio_rng: Unknown symbol _R" in log, log
        shell("modprobe virtio_rng && [ -b /dev/vda ] && dd if=/dev/vda of=/dev/null bs=4k count=8 iflag=direct")
        shell('[ -z "$(cat /sys/module/virtio_rng/taint)" ]')
        shell.start("exit")
        ksft.passed(guest)


def back_to_c(config: Config) -> None:
    """Without the files in updates/, and after depmod, the same names are the C modules, at once."""
    config.root = "full"
    config.files = {"tools": paths.TOP / "tools/lsvirtio"}
    with Guest(start(config)) as guest:
        shell = Shell(guest)
        languages = "python3 /tools/lsvirtio.py | grep -o '(Rust)\\|(C)' | sort -u"
        before = shell(languages)
        assert before == "(Rust)", before
        shell("modprobe -r virtio_rng virtio_blk virtio_pci && modprobe -r virtio_ring && ! ls -d /sys/module/virtio*")
        shell("rm /lib/modules/$(uname -r)/updates/virtio*.ko && depmod && modprobe virtio_pci")
        shell("udevadm settle --timeout=60; modprobe -a virtio_rng virtio_blk")
        shell.wait("[ -b /dev/vda ]", 60)
        after = shell(languages)
        assert after == "(C)", after
        shell.start("exit")
        ksft.passed(guest)


def the_texts_are_those_of_the_kernel(config: Config) -> None:
    """What the guide quotes of refused modules is what the kernel prints."""
    del config
    sources = " ".join((kernel.source() / name).read_text() for name in REFUSALS)
    # Literals that are in several lines.
    text = re.sub(r'"\s*\n\s*"', "", sources)
    for quoted, parts in {
        "Loading of module with unavailable key is rejected": (
            '"Loading of %s is rejected',
            '"module with unavailable key"',
        ),
        "unsigned module loading is restricted; see man kernel_lockdown.7": (
            '"Lockdown: %s: %s is restricted; see man kernel_lockdown.7',
            '"unsigned module loading"',
        ),
        "loading out-of-tree module taints kernel.": ('"%s: loading out-of-tree module taints kernel.',),
        "module verification failed: signature and/or required key missing - tainting kernel": (
            "module verification failed: signature and/or required key missing - tainting kernel",
        ),
    }.items():
        assert quoted in GUIDE.read_text(), quoted
        for part in parts:
            assert part in text, part


if __name__ == "__main__":
    ksft.run(
        one_driver_is_left_out,
        one_driver_is_refused,
        rust_drivers_do_not_load_on_the_c_core,
        back_to_c,
        the_texts_are_those_of_the_kernel,
    )
