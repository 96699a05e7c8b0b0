#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""PCI errors (AER) that QEMU injects below drivers at work: entropy, block, network.

# guest release: --kernel release
# long c-net: --kernel release --swap virtio_net=c
# long c-block: --kernel release --swap virtio_blk=c
# long debug: --kernel debug --timeout 900
"""

import contextlib
import sys
from collections.abc import Iterator

from guest import ksft, working_guest
from guest.run import Config
from guest.working_guest import DISK, PATIENCE, World

# Packets that are malformed are fatal errors, poisoned ones are not; both come after the other kind, and twice.
FATAL, NON_FATAL = "MALF_TLP", "POISON_TLP"
ORDER = (FATAL, NON_FATAL, NON_FATAL, FATAL)
# Where the device of a driver is seen, and what uses it.
USERS = {
    "blk0": ("$(dirname $(grep -l content /sys/block/vd*/serial))", f"dd if={DISK} of=/dev/null count=1 iflag=direct"),
    "net0": ("/sys/class/net/eth0", "ping -q -c 1 -W 5 10.0.2.2"),
}
C_DEVICES = {device: used for device, used in USERS.items() if f"virtio_{device.rstrip('0')}=c" in sys.argv}
RUST_DEVICES = tuple(device for device in ("rng0", *USERS) if device not in C_DEVICES)


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest, working all the time; afterwards its console shows nothing bad."""
    # Links of QEMU 10.0 that are faster say after a reset that they are not up.
    with working_guest.healthy_guest(config, ",x-speed=2_5", ",aer=on") as world:
        yield world


def inject(world: World, device: str, error: str, outcome: str) -> None:
    """ERROR comes from DEVICE, and the kernel says OUTCOME of the recovery."""
    count = f"dmesg | grep -c 'AER: device recovery {outcome}'"
    before = int(world.shell(f"{count} || true"))
    command = f"pcie_aer_inject_error {device} {error}"
    answer = world.guest.qmp().command("human-monitor-command", **{"command-line": command})
    assert str(answer).startswith("OK"), answer
    world.shell.wait(f"[ $({count}) -gt {before} ]", PATIENCE)


def rust_drivers_recover(world: World) -> None:
    """A Rust driver stops, and goes on after the reset."""
    for device in RUST_DEVICES:
        for error in ORDER:
            inject(world, device, error, "successful")
            world.works()


def c_drivers_are_left_alone(world: World) -> None:
    """Drivers that cannot stop without the device's help go on as if nothing had happened, if it is not fatal."""
    for device in C_DEVICES:
        inject(world, device, NON_FATAL, "successful")
        world.works()


def c_drivers_lose_the_device(world: World) -> None:
    """The same lose the device to a fatal error, and say so to their users; a new scan gives it back."""
    # Requests that C virtio_blk has in flight then never end, on the C stack neither.
    world.shell("rm /tmp/load; wait; touch /tmp/load")
    for device, (parent, use) in C_DEVICES.items():
        function = world.shell(f"readlink -f {parent}/device/..")
        inject(world, device, FATAL, "failed")
        world.shell(f"! timeout 10 {use}")
        world.shell(f"echo 1 >{function}/remove && echo 1 >/sys/bus/pci/rescan")
        world.works()


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        rust_drivers_recover,
        *((c_drivers_are_left_alone, c_drivers_lose_the_device) if C_DEVICES else ()),
    )
