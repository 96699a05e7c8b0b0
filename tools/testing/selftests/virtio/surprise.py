#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Functions that are gone before their drivers are told: entropy, block, network.

QEMU 10.0 always asks first.  So the port is told to forward neither accesses nor DMA: its function answers nothing any
more, and never uses a buffer that it has.  (Unlike those of a real one, its registers read as 0, not as ones.)

# guest release: --kernel release
# long debug: --kernel debug --timeout 900
"""

from guest import ksft
from guest.working_guest import World, healthy_guest

# Seconds until a function that is gone is forgotten: no driver waits for its device.
LIMIT = 20
FUNCTION = "$(readlink -f /sys/bus/virtio/drivers/{}/virtio*/..)"
# Offsets in the configuration of a bridge: Command, and the numbers of the buses behind it.
COMMAND, BUSES = 4, 25


def vanish(world: World, driver: str) -> None:
    """The function below DRIVER is gone, is removed by the kernel in time, and comes back."""
    function = world.shell(f"echo {FUNCTION.format(driver)}")
    port = f"{function}/../config"
    put = f"dd of={function.rpartition('/')[0]}/config bs=1 count=2 conv=notrunc"
    world.shell(f"head -c 64 {port} >/tmp/port")
    world.shell(f"printf '\\0\\0' | {put} seek={COMMAND} && printf '\\177\\177' | {put} seek={BUSES}")
    assert world.shell(f"hexdump -n 4 -e '\"%x\"' {function}/config") == "ffffffff", "the function still answers"
    took = world.shell(f"begin=$(date +%s); echo 1 >{function}/remove; echo $(($(date +%s) - begin))")
    assert int(took) < LIMIT, f"it took {took} seconds to forget a function that is gone"
    for offset in (BUSES, COMMAND):
        world.shell(f"dd if=/tmp/port bs=1 skip={offset} count=2 | {put} seek={offset}")
    world.shell("echo 1 >/sys/bus/pci/rescan")
    world.works()


def entropy_vanishes(world: World) -> None:
    """A Rust driver, in the middle of reads."""
    vanish(world, "virtio_rng")


def network_vanishes(world: World) -> None:
    """With packets on their way."""
    vanish(world, "virtio_net")


def idle_disk_vanishes(world: World) -> None:
    """No requests are in flight: C virtio_blk would wait for them for ever, ours until they time out."""
    world.shell("rm /tmp/load; wait; touch /tmp/load")
    vanish(world, "virtio_blk")


if __name__ == "__main__":
    ksft.run_in_one(healthy_guest, entropy_vanishes, network_vanishes, idle_disk_vanishes)
