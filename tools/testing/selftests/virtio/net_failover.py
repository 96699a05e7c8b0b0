#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A network device that stands in for another one with the same address (VIRTIO_NET_F_STANDBY), Rust and C: QEMU plugs
the other one in when the driver has agreed, both are behind an interface of the kernel's, and what is sent goes through
the one that is there.

The kernel's net_failover takes a lock that it never initialized (stats_lock), of which lockdep says so and stops.

# guest *: --root full --timeout 600
# long rust: --kernel release
# long c: --kernel release --swap virtio_net=c
# long rust-packed: --kernel release --device net,packed=on
# long debug: --kernel debug --memory 1024 --timeout 1800 --allow "turning off the locking correctness validator"
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

ARGUMENTS = " ".join(sys.argv)
RUST = "virtio_net=c" not in ARGUMENTS
# Seconds until something is as it should be: the debug kernel under TCG, on a busy host.
PATIENCE = 120
MAC = "52:54:00:12:34:99"
# The position of VIRTIO_NET_F_STANDBY in the sysfs attribute, from 1.
STANDBY = 63
DRIVER = "/sys/bus/virtio/drivers/virtio_net"
PRIMARY = {"driver": "e1000", "netdev": "end1", "bus": "port1", "mac": MAC, "failover_pair_id": "standby"}
WORKS = "ping -q -c 3 -i 0.2 -W 20 10.0.2.2"


@dataclass
class World:
    """The guest, and a shell in it."""

    guest: Guest
    shell: Shell

    def by_driver(self) -> dict[str, str]:
        """The interfaces by the names of their drivers."""
        names = self.shell("ls /sys/class/net").split()
        drivers = (self.shell(f"ethtool -i {name} 2>/dev/null | sed -n 's/^driver: //p'") for name in names)
        return {driver: name for driver, name in zip(drivers, names, strict=True) if driver}

    def name(self, driver: str) -> str:
        """The interface of a driver, when there is one."""
        all_of_them = "for i in /sys/class/net/*; do ethtool -i ${i##*/} 2>/dev/null; done"
        self.shell.wait(f"{all_of_them} | grep -q '^driver: {driver}$'", PATIENCE)
        return self.by_driver()[driver]

    def sent(self, driver: str) -> int:
        """Packets that went out through the interface of a driver."""
        return int(self.shell(f"cat /sys/class/net/{self.name(driver)}/statistics/tx_packets"))

    def below(self) -> list[str]:
        """Drivers of what is behind the interface of the kernel's."""
        front = self.name("net_failover")
        lower = self.shell(f"ls -d /sys/class/net/{front}/lower_* 2>/dev/null | sed 's/.*lower_//'").split()
        return sorted(driver for driver, name in self.by_driver().items() if name in lower)

    def begin(self) -> None:
        """The interface of the kernel's has an address."""
        front = self.name("net_failover")
        self.shell(f"ip link set {front} up && ip addr replace 10.0.2.15/24 dev {front}")

    def goes_through(self, driver: str) -> None:
        """Packets do."""
        self.shell.wait(WORKS, PATIENCE)
        before = self.sent(driver)
        self.shell(WORKS)
        assert self.sent(driver) >= before + 3, driver


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest; afterwards its console shows nothing bad."""
    config.default_devices = False
    options = [device.partition(",")[2] for device in config.devices]
    config.devices = []
    for number in range(2):
        config.qemu_args += ["-netdev", f"user,id=end{number}"]
        config.qemu_args += ["-device", f"pcie-root-port,id=port{number},bus=pcie.0,chassis={number},slot={number}"]
    standby = ",".join(["virtio-net-pci,id=standby,netdev=end0,bus=port0,failover=on", f"mac={MAC}", *options])
    primary = ",".join([PRIMARY["driver"], "id=primary", *(f"{k}={v}" for k, v in PRIMARY.items() if k != "driver")])
    config.qemu_args += ["-device", standby, "-device", primary]
    config.append = [*config.append, "net.ifnames=0"]
    config.more_modules = ["e1000"]
    Shell.prepare(config)
    with Guest(config) as guest:
        world = World(guest, Shell(guest))
        world.shell("modprobe e1000")
        for driver in ("virtio_net", "net_failover", "e1000"):
            world.name(driver)
        yield world
        world.shell.start("exit")
        ksft.passed(guest)


def the_feature_is_agreed_on(world: World) -> None:
    """And both devices are behind one interface, which has their address."""
    taint = world.shell("cat /sys/module/virtio_net/taint")
    assert ("O" in taint) == RUST, taint
    bits = world.shell(f"cat /sys/class/net/{world.name('virtio_net')}/device/features")
    assert bits[STANDBY - 1] == "1", bits
    assert world.below() == ["e1000", "virtio_net"], world.below()
    assert world.shell(f"cat /sys/class/net/{world.name('net_failover')}/address") == MAC


def the_other_one_is_used_while_it_is_there(world: World) -> None:
    """And this one when it is gone; and again."""
    world.begin()
    world.goes_through("e1000")
    monitor = world.guest.qmp()
    for _ in range(2):
        monitor.command("device_del", id="primary")
        while monitor.event("DEVICE_DELETED", PATIENCE)["data"].get("device") != "primary":
            pass
        world.shell.wait("! lspci -d 8086:100e | grep -q .", PATIENCE)
        assert world.below() == ["virtio_net"], world.below()
        world.goes_through("virtio_net")
        monitor.command("device_add", id="primary", **PRIMARY)
        world.name("e1000")
        world.shell.wait(WORKS, PATIENCE)
        assert world.below() == ["e1000", "virtio_net"], world.below()
        world.goes_through("e1000")


def resets_and_sleep_leave_it_as_it_was(world: World) -> None:
    """The machine sleeps."""
    world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test")
    world.shell("echo mem >/sys/power/state")
    assert world.below() == ["e1000", "virtio_net"], world.below()
    world.shell.wait(WORKS, PATIENCE)


def the_driver_comes_and_goes(world: World) -> None:
    """The interface of the kernel's goes with it, and the other device is by itself; both are back afterwards."""
    device = world.shell(f"basename {DRIVER}/virtio*")
    for _ in range(3):
        world.shell(f"echo {device} >{DRIVER}/unbind")
        assert sorted(world.by_driver()) == ["e1000"], world.by_driver()
        world.shell(f"echo {device} >{DRIVER}/bind")
        world.name("net_failover")
        world.shell.wait(f"[ $(ls -d /sys/class/net/{world.name('net_failover')}/lower_* | wc -l) = 2 ]", PATIENCE)
        world.begin()
        world.shell.wait(WORKS, PATIENCE)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        the_feature_is_agreed_on,
        the_other_one_is_used_while_it_is_there,
        resets_and_sleep_leave_it_as_it_was,
        the_driver_comes_and_goes,
    )
