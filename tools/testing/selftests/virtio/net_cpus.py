#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Processors that come and go under the network driver, Rust and C: its interrupts are for those that there are.

# guest *: --smp 3 --root full --append net.ifnames=0 --no-default-devices --device net --timeout 600
# guest rust: --kernel release
# guest c: --kernel release --swap virtio_net=c
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import contextlib
import sys
from collections.abc import Iterator

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

RUST = "virtio_net=c" not in " ".join(sys.argv)
# Seconds until something is as it should be: the debug kernel under TCG, on a busy host.
PATIENCE = 120
CPU = "/sys/devices/system/cpu"
DRIVER = "/sys/bus/virtio/drivers/virtio_net"
WORKS = "ping -q -c 2 -i 0.1 -W 20 10.0.2.2"
# Interrupts of the queues, by number.
INTERRUPTS = "$(sed -n 's/^ *\\([0-9]*\\):.*virtio[0-9]*-{0}put.0$/\\1/p' /proc/interrupts)"


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[Shell]:
    """One guest; afterwards its console shows nothing bad."""
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
        taint = shell("cat /sys/module/virtio_net/taint")
        assert ("O" in taint) == RUST, taint
        up(shell)
        yield shell
        shell.start("exit")
        ksft.passed(guest)


def up(shell: Shell) -> None:
    """The interface works."""
    shell("ip link set eth0 up && ip addr replace 10.0.2.15/24 dev eth0")
    shell.wait(WORKS, PATIENCE)


def are_for(shell: Shell, mask: int) -> None:
    """The interrupts of both queues are for the processors in MASK."""
    for way in ("in", "out"):
        hint = f"$(cat /proc/irq/{INTERRUPTS.format(way)}/affinity_hint)"
        shell.wait(f"[ $((0x{hint})) = {mask} ]", PATIENCE)


def the_kernel_has_its_states(shell: Shell) -> None:
    """By the names of C's driver; they go with the module."""
    names = ("virtio/net:online", "virtio/net:dead")
    for name in names:
        shell(f"grep -q ' {name}$' {CPU}/hotplug/states")
    shell("rmmod virtio_net")
    for name in names:
        shell(f"! grep -q ' {name}$' {CPU}/hotplug/states")
    shell("modprobe virtio_net")
    shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
    up(shell)


def interrupts_follow_processors(shell: Shell) -> None:
    """As they go and come, under load."""
    are_for(shell, 7)
    shell("timeout 300 ping -q -f 10.0.2.2 >/dev/null 2>&1 &")
    for _ in range(2):
        for cpu, mask in ((2, 3), (1, 1)):
            shell(f"echo 0 >{CPU}/cpu{cpu}/online")
            are_for(shell, mask)
        for cpu, mask in ((2, 5), (1, 7)):
            shell(f"echo 1 >{CPU}/cpu{cpu}/online")
            are_for(shell, mask)
    shell("pkill ping; true")
    shell.wait(WORKS, PATIENCE)


def a_driver_that_comes_finds_those_that_there_are(shell: Shell) -> None:
    """And hears of others from then on; none hears of them who is gone."""
    device = shell(f"basename {DRIVER}/virtio*")
    shell(f"echo {device} >{DRIVER}/unbind; echo 0 >{CPU}/cpu2/online; echo {device} >{DRIVER}/bind")
    shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
    up(shell)
    are_for(shell, 3)
    shell(f"echo 1 >{CPU}/cpu2/online")
    are_for(shell, 7)
    shell.wait(WORKS, PATIENCE)


def sleep_is_no_obstacle(shell: Shell) -> None:
    """Processors go and come for it, while the device is away."""
    shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo processors >/sys/power/pm_test")
    shell("echo mem >/sys/power/state")
    are_for(shell, 7)
    shell.wait(WORKS, PATIENCE)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        the_kernel_has_its_states,
        interrupts_follow_processors,
        a_driver_that_comes_finds_those_that_there_are,
        sleep_is_no_obstacle,
    )
