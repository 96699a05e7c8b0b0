#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The control queue of the Rust network driver: what QEMU was told of filters, before and after resets, and silence.

# guest *: --root full --timeout 600
# guest split: --kernel release
# long packed: --kernel release --qemu "-global virtio-net-pci.packed=on"
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import contextlib
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

# Seconds until something is as it should be: the debug kernel under TCG, on a busy host.
PATIENCE = 60
NIC = "net0"
ADDRESS = "52:54:00:12:34:77"
UNICAST = "52:54:00:aa:bb:01"
MULTICAST = "01:00:5e:7f:00:07"
VLANS = (5, 4000)
# Positions in the sysfs attribute, from 1: CTRL_VQ, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA, GUEST_ANNOUNCE, CTRL_MAC_ADDR.
FEATURES = (18, 19, 20, 21, 22, 24)
PORT = "pcie-root-port,id=port0,bus=pcie.0,chassis=0,slot=0"
FUNCTION = "$(readlink -f /sys/bus/virtio/drivers/virtio_net/virtio*/..)"
WORKS = "ip addr replace 10.0.2.15/24 dev eth0 && ping -q -c 2 -i 0.1 -W 10 10.0.2.2"
# Where QEMU's device configuration is in BAR 4, and `status` in that.
STATUS = 0x2000 + 6
LINK_UP, ANNOUNCE = 1, 2
# How long a command may take, in seconds, and what is said then.
DEADLINE = 10
COMPLAINT = "no answer within"
# The PCI command register, with bus mastering and without, and where it is.
MASTER, NO_MASTER, COMMAND = "007", "003", 4


@dataclass
class World:
    """The guest, a shell in it, and what went over its wire."""

    guest: Guest
    shell: Shell
    wire: Path

    def filter(self) -> dict[str, Any]:
        """What QEMU says that its device lets through; lists have no order.

        Without the VLANs: after a reset, QEMU 10.0 lets all of them through, whatever the driver.
        """
        (answer,) = self.guest.qmp().command("query-rx-filter", name=NIC)
        assert isinstance(answer, dict)
        shown = {key: sorted(value) if isinstance(value, list) else value for key, value in answer.items()}
        del shown["vlan-table"]
        return shown

    def vlans(self) -> set[int]:
        """VLANs that QEMU lets through."""
        (answer,) = self.guest.qmp().command("query-rx-filter", name=NIC)
        return set(answer["vlan-table"])

    def commands(self) -> int:
        """How many commands the device was given since its last reset."""
        header, *lines = self.shell(
            "cat /sys/kernel/debug/virtio/$(basename $(readlink -f /sys/class/net/eth0/device))/queues"
        ).splitlines()
        names = header.split()
        rows = [dict(zip(names, line.split(), strict=True)) for line in lines]
        (control,) = (row for row in rows if row["name"] == "control")
        return int(control["adds"])

    def reset(self) -> None:
        """A function level reset."""
        self.shell(f"echo 1 >{FUNCTION}/reset")

    def command_register(self, value: str) -> None:
        """Write the lower byte of the function's command register, octal."""
        self.shell(f"printf '\\{value}' | dd of={FUNCTION}/config bs=1 seek={COMMAND} conv=notrunc 2>/dev/null")

    def status(self) -> int:
        """The field of the device's configuration."""
        bar = int(self.shell(f"sed -n 5p {FUNCTION}/resource").split()[0], 16)
        line = f"xp /1hx {bar + STATUS:#x}"
        answer = self.guest.qmp().command("human-monitor-command", **{"command-line": line})
        return int(str(answer).split(":")[1], 16)


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest; afterwards its console shows nothing bad."""
    with ksft.scratch() as directory:
        config.default_devices = False
        wire = directory / "wire"
        config.qemu_args += ["-device", PORT, "-netdev", "user,id=wire", "-device"]
        config.qemu_args += [f"virtio-net-pci,id={NIC},netdev=wire,bus=port0,disable-legacy=on"]
        config.qemu_args += ["-object", f"filter-dump,id=dump,netdev=wire,file={wire}"]
        config.more_modules = ["8021q"]
        config.append = [*config.append, "net.ifnames=0"]
        Shell.prepare(config)
        with Guest(config) as guest:
            world = World(guest, Shell(guest), wire)
            world.shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
            world.shell("[ -d /sys/kernel/debug/virtio ] || mount -t debugfs none /sys/kernel/debug")
            # What nobody asked for is not sent: else the device is reset while it is silent.
            world.shell("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
            # When an interface comes up, VLAN 0 is asked for, by a module that is there.
            world.shell(f"modprobe 8021q && ip link set eth0 up && {WORKS}")
            yield world
            world.shell.start("exit")
            ksft.passed(guest)


def the_queue_is_agreed_on(world: World) -> None:
    """With its features, and an interrupt of its own, in our driver."""
    assert world.shell("cat /sys/module/virtio_net/taint") == "O"
    bits = world.shell("cat /sys/class/net/eth0/device/features")
    assert [bits[at - 1] for at in FEATURES] == ["1"] * len(FEATURES), bits
    world.shell("grep -q virtio.*-control /proc/interrupts")


def modes_are_switched(world: World) -> None:
    """Everything, or every multicast, and back."""
    assert not world.filter()["promiscuous"]
    world.shell("ip link set eth0 promisc on")
    assert world.filter()["promiscuous"]
    world.shell("ip link set eth0 promisc off && ip link set eth0 allmulticast on")
    now = world.filter()
    assert (now["promiscuous"], now["multicast"]) == (False, "all"), now
    world.shell("ip link set eth0 allmulticast off")
    assert world.filter()["multicast"] == "normal"


def addresses_are_filtered(world: World) -> None:
    """Those of one and those of many, each in its table, and out of it."""
    world.shell(f"bridge fdb add {UNICAST} dev eth0 self permanent && ip maddr add {MULTICAST} dev eth0")
    now = world.filter()
    assert now["unicast-table"] == [UNICAST], now
    assert MULTICAST in now["multicast-table"], now
    world.shell(f"bridge fdb del {UNICAST} dev eth0 self && ip maddr del {MULTICAST} dev eth0")
    now = world.filter()
    assert now["unicast-table"] == [] and MULTICAST not in now["multicast-table"], now


def an_interface_can_be_without_multicasts(world: World) -> None:
    """None are let through, unless somebody wants all; and again after a reset."""
    before = world.filter()
    world.shell("ip link set eth0 multicast off")
    state = world.filter()
    # QEMU 10.0 says of broadcasts the opposite of what it does: that it stays as it was is what counts.
    expected = ("none", "normal", before["broadcast-allowed"])
    assert (state["multicast"], state["unicast"], state["broadcast-allowed"]) == expected, state
    world.reset()
    unchanged(world, state)
    world.shell("ip link set eth0 allmulticast on")
    assert world.filter()["multicast"] == "all"
    world.shell("ip link set eth0 allmulticast off && ip link set eth0 multicast on")
    assert world.filter()["multicast"] == "normal"


def too_many_addresses_are_let_through(world: World) -> None:
    """More than QEMU's table has room for."""
    each = "$(printf 52:54:00:bb:00:%02x $i)"
    world.shell(f"for i in $(seq 80); do bridge fdb add {each} dev eth0 self permanent || exit 1; done")
    assert world.filter()["unicast-overflow"]
    world.shell(f"for i in $(seq 80); do bridge fdb del {each} dev eth0 self || exit 1; done")
    assert not world.filter()["unicast-overflow"]


def vlans_are_filtered(world: World) -> None:
    """Each that there is an interface for; and 0, which packets with a priority alone have."""
    add = "ip link add link eth0 name v{0} type vlan id {0} || exit 1"
    world.shell("; ".join(add.format(vlan) for vlan in VLANS))
    assert world.vlans() >= {0, *VLANS}
    for vlan in VLANS:
        world.shell(f"ip link del v{vlan}")
    assert not world.vlans() & {*VLANS}
    world.shell(add.format(VLANS[0]))
    assert world.vlans() & {*VLANS} == {VLANS[0]}
    world.shell(f"ip link del v{VLANS[0]}")


def the_address_changes(world: World) -> None:
    """The device hears of it, and packets arrive."""
    world.shell(f"ip link set eth0 address {ADDRESS}")
    assert world.filter()["main-mac"] == ADDRESS
    world.shell(WORKS)


def announcements(wire: bytes) -> int:
    """How many packets of ARP in a capture tell of the guest's own address."""
    count, at = 0, 24
    address = bytes.fromhex(ADDRESS.replace(":", ""))
    while at + 16 <= len(wire):
        (size,) = struct.unpack_from("<I", wire, at + 8)
        packet = wire[at + 16 : at + 16 + size]
        count += packet[6:14] == address + b"\x08\x06" and packet[28:32] == packet[38:42]
        at += 16 + size
    return count


def the_guest_announces_itself(world: World) -> None:
    """Whenever the host asks for it, and says that it did."""
    for _ in range(3):
        before = announcements(world.wire.read_bytes())
        world.guest.qmp().command("announce-self", initial=50, max=50, rounds=1, step=0)
        deadline = time.monotonic() + PATIENCE
        while announcements(world.wire.read_bytes()) == before or world.status() != LINK_UP:
            assert time.monotonic() < deadline, f"status {world.status():#x}"
            time.sleep(0.2)


def everything(world: World) -> dict[str, Any]:
    """Ask for some of everything; returns what QEMU says of it."""
    world.shell("ip link set eth0 promisc on && ip link set eth0 allmulticast on")
    world.shell(f"bridge fdb add {UNICAST} dev eth0 self permanent && ip maddr add {MULTICAST} dev eth0")
    state = world.filter()
    assert state["promiscuous"] and state["multicast"] == "all" and state["main-mac"] == ADDRESS, state
    assert state["unicast-table"] == [UNICAST], state
    return state


def a_reset_is_made_up_for(world: World) -> None:
    """The device is told all of it again."""
    state = everything(world)
    for _ in range(3):
        world.reset()
        unchanged(world, state)
        world.shell(WORKS)


def vlans_are_told_again(world: World) -> None:
    """One command for each."""
    world.reset()
    before = world.commands()
    for vlan in VLANS:
        world.shell(f"ip link add link eth0 name v{vlan} type vlan id {vlan}")
    world.reset()
    assert world.commands() == before + len(VLANS), world.commands()
    for vlan in VLANS:
        world.shell(f"ip link del v{vlan}")
    world.reset()
    assert world.commands() == before, world.commands()


def unchanged(world: World, state: dict[str, Any]) -> None:
    """QEMU says STATE."""
    now = world.filter()
    assert now == state, f"{now}, not {state}"


def sleep_is_made_up_for(world: World) -> None:
    """The same when the machine sleeps, with the interface up and down."""
    state = world.filter()
    world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test")
    world.shell("echo mem >/sys/power/state")
    unchanged(world, state)
    world.shell("ip link set eth0 down && echo mem >/sys/power/state && ip link set eth0 up")
    unchanged(world, state)
    world.shell(WORKS)


def silence_costs_one_deadline(world: World) -> None:
    """A device that answers nothing: one caller waits, the others fail; after a reset all is as it was asked for."""
    world.shell("ip link set eth0 promisc off && ip addr flush dev eth0 && dmesg -C")
    state = world.filter()
    # QEMU's device then does nothing, and is not to be had back without a reset.
    world.command_register(NO_MASTER)
    start = time.monotonic()
    world.shell("ip link set eth0 promisc on")
    world.shell(f"! ip link set eth0 address {UNICAST}")
    world.shell("! ip link add link eth0 name v9 type vlan id 9")
    world.shell("ip link set eth0 promisc off; ip link set eth0 allmulticast off; ip link set eth0 allmulticast on")
    spent = time.monotonic() - start
    assert spent < 2 * DEADLINE, f"{spent} s"
    assert world.shell(f"dmesg | grep -c '{COMPLAINT}'") == "1"
    world.command_register(MASTER)
    world.reset()
    unchanged(world, state)
    world.shell(WORKS)


def the_driver_comes_and_goes(world: World) -> None:
    """A new binding starts with nothing."""
    device = world.shell("basename /sys/bus/virtio/drivers/virtio_net/virtio*")
    world.shell(f"cd /sys/bus/virtio/drivers/virtio_net; echo {device} >unbind; echo {device} >bind; cd /")
    world.shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
    world.shell("udevadm settle; ip link set eth0 up")
    state = world.filter()
    assert not state["promiscuous"] and state["main-mac"] != ADDRESS and state["unicast-table"] == [], state
    world.shell(WORKS)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        the_queue_is_agreed_on,
        modes_are_switched,
        addresses_are_filtered,
        an_interface_can_be_without_multicasts,
        too_many_addresses_are_let_through,
        vlans_are_filtered,
        the_address_changes,
        the_guest_announces_itself,
        a_reset_is_made_up_for,
        vlans_are_told_again,
        sleep_is_made_up_for,
        silence_costs_one_deadline,
        the_driver_comes_and_goes,
    )
