#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Devices that come and go while they work: entropy, block and network drivers.

# guest *: --accel tcg-single
# guest release: --kernel release --timeout 600
# long c-net: --kernel release --timeout 600 --swap virtio_net=c
# guest debug: --kernel debug --timeout 900
"""

import sys

from guest import ksft
from guest.working_guest import DEVICES, LONG, PATIENCE, World, healthy_guest

# The debug kernel takes ten seconds to bind all of them.
ROUNDS = 50 if LONG else 1 if "debug" in sys.argv else 5
C_NET = "virtio_net=c" in sys.argv
NO_DEVICE = '[ -z "$(ls /sys/bus/virtio/devices)" ]'
FUNCTIONS = "/sys/bus/pci/drivers/virtio-pci/0000:*"


def unplugged_and_plugged(world: World) -> None:
    """Each device is taken away, and given back, under load."""
    monitor = world.guest.qmp()
    for _ in range(ROUNDS):
        for identity in DEVICES:
            monitor.command("device_del", id=identity)
        gone: set[str] = set()
        while gone != set(DEVICES):
            # A device without a name has an event of its own, by its path alone.
            gone |= {monitor.event("DEVICE_DELETED", PATIENCE)["data"].get("device", "")} - {""}
        world.shell.wait(NO_DEVICE, PATIENCE)
        for identity, keys in DEVICES.items():
            monitor.command("device_add", id=identity, **keys)
        world.works()


def unbound_and_bound(world: World) -> None:
    """Each driver is taken from its device and given back, under load."""
    for _ in range(ROUNDS):
        world.shell(
            "(cd /sys/bus/virtio/drivers; for device in */virtio*; do driver=${device%/*}; device=${device#*/}; "
            "echo $device >$driver/unbind && echo $device >$driver/bind || exit 1; done)"
        )
        world.works()


def transport_unbound_and_bound(world: World) -> None:
    """The transport is taken from each function, with the driver above it, and given back, under load."""
    for _ in range(ROUNDS):
        world.shell(
            f"(cd /sys/bus/pci/drivers/virtio-pci; for function in {FUNCTIONS}; do function=${{function##*/}}; "
            "echo $function >unbind && echo $function >bind || exit 1; done)"
        )
        world.works()


def functions_reset(world: World) -> None:
    """Each function is reset, under load; but for a network device with the C driver, which does not go on after it."""
    left_out = "[ -d $(echo $function/virtio*)/net ]" if C_NET else "false"
    for _ in range(ROUNDS):
        world.shell(f"(for function in {FUNCTIONS}; do {left_out} || echo 1 >$function/reset || exit 1; done)")
        world.works()


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        unplugged_and_plugged,
        unbound_and_bound,
        transport_unbound_and_bound,
        functions_reset,
    )
