#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The entropy device is unplugged while a reader is in the middle of a read, then one is plugged in again."""

# guest release: --kernel release --no-default-devices --device pcie-root-port,id=port0,slot=1
# guest debug: --kernel debug --no-default-devices --device pcie-root-port,id=port0,slot=1

from guest.ksft import passed, run
from guest.run import Config, Guest

GUEST_SIDE = """
echo reading
cat /dev/hwrng >/dev/null 2>/tmp/error
echo "reader ended: $(cat /tmp/error)"
echo unplugged
until grep -qs virtio_rng /sys/class/misc/hw_random/rng_available; do usleep 100000; done
echo "available: $(cat /sys/class/misc/hw_random/rng_available)"
head -c 64 /dev/hwrng >/tmp/entropy && [ "$(wc -c </tmp/entropy)" -eq 64 ] && echo read
"""

# pciehp waits five seconds before it takes a device away.
UNPLUG_SECONDS = 120.0


def unplug(guest: Guest) -> None:
    """Take the device `entropy` away and wait until QEMU has let it go."""
    guest.expect("^reading$")
    guest.qmp().command("device_del", id="entropy")
    guest.qmp().event("DEVICE_DELETED", UNPLUG_SECONDS)
    ended = guest.expect("^reader ended: (.*)$").group(1)
    if "No such device" not in ended:
        raise AssertionError(f"the reader ended with {ended!r}, not with ENODEV")


def plug(guest: Guest) -> None:
    """Put a new device in its place; the driver must take it."""
    guest.expect("^unplugged$")
    guest.qmp().command("device_add", driver="virtio-rng-pci", id="again", bus="port0")
    guest.expect("^available: .*virtio_rng")
    guest.expect("^read$")


def unplug_while_reading(config: Config) -> None:
    """The device answers: the reader is between two answers, or in one."""
    config.devices.append("rng,id=entropy,bus=port0")
    config.command = GUEST_SIDE
    with Guest(config) as guest:
        unplug(guest)
        plug(guest)
        passed(guest)


def unplug_while_waiting(config: Config) -> None:
    """The device never answers: the reader sleeps, and only the removal can end that."""
    config.qemu_args += ["-chardev", "null,id=silence", "-object", "rng-egd,id=nothing,chardev=silence"]
    config.devices.append("rng,id=entropy,bus=port0,rng=nothing")
    config.command = GUEST_SIDE
    with Guest(config) as guest:
        unplug(guest)
        plug(guest)
        passed(guest)


run(unplug_while_reading, unplug_while_waiting)
