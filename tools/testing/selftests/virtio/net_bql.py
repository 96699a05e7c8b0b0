#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The stack's limit of what may be on its way in a transmit queue (byte queue limits), of the Rust and the C network
driver: what is on its way is counted back to nothing, after traffic, and when a queue or the device is reset under it.

The debug kernel is built without such limits.

# guest *: --kernel release --root full --no-default-devices --append net.ifnames=0 --timeout 600
# long split:
# long packed: --append packed=on
# long c: --swap virtio_net=c
# long c-packed: --append packed=on --swap virtio_net=c
"""

import contextlib
import sys
from collections.abc import Iterator

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

ARGUMENTS = " ".join(sys.argv)
RUST = "virtio_net=c" not in ARGUMENTS
# Seconds until something is as it should be, on a busy host.
PATIENCE = 60
LIMITS = "/sys/class/net/{0}/queues/tx-0/byte_queue_limits"
FUNCTION = "$(readlink -f /sys/class/net/{0}/device/..)"
# Packets as long as the MTU, as fast as they go, of several senders: of one that waits for answers there are few.
LOAD = "for _ in 1 2 3; do timeout -s INT {1} ping -q -f -s 1400 -I {0} {2} >/dev/null 2>&1 & done"
# To the gateway; and to somebody whom nobody takes packets for.
WIRE, NOWHERE = "eth0", "eth1"


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[Shell]:
    """One guest; afterwards its console shows nothing bad."""
    packed = "on" if "packed=on" in config.append else "off"
    for number, backend in enumerate(("user,id=end0", "hubport,hubid=1,id=end1")):
        config.qemu_args += ["-netdev", backend]
        config.qemu_args += ["-device", f"pcie-root-port,id=port{number},bus=pcie.0,chassis={number},slot={number}"]
        device = f"virtio-net-pci,netdev=end{number},bus=port{number},disable-legacy=on,packed={packed}"
        config.qemu_args += ["-device", device]
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        for interface, address in ((WIRE, "10.0.2.15/24"), (NOWHERE, "10.9.0.1/24")):
            shell.wait(f"[ -e /sys/class/net/{interface} ]", PATIENCE)
            shell(f"echo 1 >/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
            shell(f"ip link set {interface} up && ip addr add {address} dev {interface}")
        taint = shell("cat /sys/module/virtio_net/taint")
        assert ("O" in taint) == RUST, taint
        yield shell
        shell.start("exit")
        ksft.passed(guest)


def limit(shell: Shell, name: str, interface: str = WIRE) -> int:
    """One of the numbers."""
    return int(shell(f"cat {LIMITS.format(interface)}/{name}"))


def comes_to_rest(shell: Shell, interface: str = WIRE) -> None:
    """Nothing is on its way any more; and packets still go out."""
    shell.wait("! pgrep ping >/dev/null", PATIENCE)
    shell.wait(f"[ $(cat {LIMITS.format(interface)}/inflight) = 0 ]", PATIENCE)
    if interface == WIRE:
        shell("ping -q -c 2 -i 0.1 -W 10 10.0.2.2")
        shell.wait(f"[ $(cat {LIMITS.format(interface)}/inflight) = 0 ]", PATIENCE)


def load(shell: Shell, seconds: int = 5, interface: str = WIRE) -> None:
    """Packets for so long, in the background."""
    shell(LOAD.format(interface, seconds, "10.0.2.2"))


def what_was_sent_is_counted_back(shell: Shell) -> None:
    """And the limit follows what is sent."""
    comes_to_rest(shell)
    load(shell)
    comes_to_rest(shell)
    assert limit(shell, "limit") > 0


def limits_can_be_set_under_load(shell: Shell) -> None:
    """Of one packet, of many, and as before."""
    directory = LIMITS.format(WIRE)
    most = limit(shell, "limit_max")
    load(shell, 8)
    for value in (1500, 20000, most):
        shell(f"echo {value} >{directory}/limit_max && sleep 1")
        assert limit(shell, "limit") <= value
    comes_to_rest(shell)


def queues_of_other_sizes_begin_with_nothing(shell: Shell) -> None:
    """What was in them is lost, and not on its way."""
    load(shell, 10)
    for size in (64, 128, 256):
        shell(f"ethtool -G {WIRE} tx {size} rx {size} && sleep 0.5")
    comes_to_rest(shell)


def an_interface_comes_and_goes(shell: Shell) -> None:
    """Down and up, under load."""
    for _ in range(3):
        load(shell, 3)
        shell(f"sleep 0.5; ip link set {WIRE} down && ip link set {WIRE} up")
        comes_to_rest(shell)


def a_reset_begins_with_nothing(shell: Shell) -> None:
    """And sleep."""
    shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test")
    resets = [f"echo 1 >{FUNCTION.format(WIRE)}/reset"] if RUST else []
    for action in (*resets, "echo mem >/sys/power/state"):
        load(shell, 5)
        shell(f"sleep 0.5; {action}")
        comes_to_rest(shell)


def what_nobody_takes_is_on_its_way(shell: Shell) -> None:
    """Until the watchdog has the device reset; C's driver counts, and waits on."""
    # A socket has room for less than half of the queue; ping asks for less unless told.
    shell("for _ in 1 2 3 4; do timeout 60 ping -q -f -S 200000 -s 1400 -I eth1 224.0.0.1 >/dev/null 2>&1 & done")
    shell.wait(f"[ $(cat {LIMITS.format(NOWHERE)}/inflight) -gt 0 ]", PATIENCE)
    if RUST:
        shell.wait("dmesg | grep -q 'virtio_net.*recovered'", PATIENCE)
    shell("pkill -INT ping; true")
    if RUST:
        # What was sent since is stuck as well, with a device that works: it is reset once more.
        shell(f"ip link set {NOWHERE} down; echo 1 >{FUNCTION.format(NOWHERE)}/reset")
        comes_to_rest(shell, NOWHERE)


def a_queue_without_interrupts_has_no_limit(shell: Shell) -> None:
    """Packets belong to nobody then, and nothing is counted; with interrupts again, it is."""
    for frames in (0, 1):
        shell(f"ip link set {WIRE} down && ethtool -C {WIRE} tx-frames {frames} && ip link set {WIRE} up")
        load(shell, 3)
        if frames == 0:
            for _ in range(5):
                assert limit(shell, "inflight") == 0
        comes_to_rest(shell)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        what_was_sent_is_counted_back,
        limits_can_be_set_under_load,
        queues_of_other_sizes_begin_with_nothing,
        an_interface_comes_and_goes,
        a_reset_begins_with_nothing,
        a_queue_without_interrupts_has_no_limit,
        what_nobody_takes_is_on_its_way,
    )
