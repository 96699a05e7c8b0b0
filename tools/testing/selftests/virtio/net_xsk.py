#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Zero-copy AF_XDP sockets on the network driver, Rust and C: a wire with two devices, the first of which has the
socket; frames that cross it both ways, every byte of which is looked at; sockets that come and go under traffic;
packets for the stack, in one buffer or in several, and programs; queues of other sizes, resets, sleep, and an unbound
driver meanwhile.

Two devices of QEMU 10.0 on one hub, packed and with event indices, stall after some hundred packets, with the C driver
as with this one: so not these two together.

What `--device net` has are options of both.

# guest *: --root full --timeout 3600
# guest split: --kernel release
# long packed-small: --kernel release --device net,packed=on,event_idx=off,mrg_rxbuf=off
# long jumbo: --kernel release --device net,host_mtu=9000
# long direct: --kernel release --device net,indirect_desc=off
# long c: --kernel release --swap virtio_net=c
# long c-jumbo: --kernel release --device net,host_mtu=9000 --swap virtio_net=c
# long packed: --kernel release --device net,packed=on,event_idx=off
# long debug: --kernel debug --memory 1024
# long debug-packed: --kernel debug --memory 1024 --device net,packed=on,event_idx=off
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "xsk.c"
PROGRAMS = HERE / "programs/net_xdp.py"
ARGUMENTS = " ".join(sys.argv)
RUST = "virtio_net=c" not in ARGUMENTS
JUMBO = "host_mtu=9000" in ARGUMENTS
DEBUG = "--kernel debug" in ARGUMENTS
# Seconds for a batch of frames, both ways: the debug kernel under TCG, on a busy host.
PATIENCE = 120
BATCHES = 30 if DEBUG else 150
COUNT = 30 if DEBUG else 100
PINNED = "/sys/fs/bpf"
DUT, PEER = "eth0", "eth1"
LENGTHS = (60, 1000, 1514)
LONGEST = 9014
FUNCTION = f"$(readlink -f /sys/class/net/{DUT}/device/..)"
DEVICE = f"$(basename $(readlink -f /sys/class/net/{DUT}/device))"
DRIVER = "/sys/bus/virtio/drivers/virtio_net"


class World:
    """A shell in the guest, and its two interfaces."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def cross(self, batches: int = BATCHES) -> None:
        """Frames cross the wire, from a socket and to it, and none is lost."""
        self.shell(f"/xsk {DUT} {PATIENCE} {PEER} {batches}")

    def begin(self, batches: int) -> None:
        """The same in the background, where frames may be lost."""
        lossy = f"/xsk {DUT} {PATIENCE} {PEER} {batches} lossy"
        self.shell(f"rm -f /tmp/status; ({lossy} >/tmp/crossed 2>&1; echo $? >/tmp/status) >/dev/null 2>&1 & :")
        self.shell.wait(f"ip -d link show {DUT} | grep -q prog/xdp", PATIENCE)

    def end(self) -> None:
        """All of those have crossed."""
        self.shell.wait("[ -e /tmp/status ]", PATIENCE)
        assert self.shell("cat /tmp/status") == "0", self.shell("cat /tmp/crossed")

    def still_crossing(self) -> None:
        """What began has not ended, so that what was done was done meanwhile."""
        self.shell("! [ -e /tmp/status ]")

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        """A socket is bound, and no program is there for it."""
        self.shell(f"rm -f /tmp/held; /xsk {DUT} {PATIENCE} hold >/tmp/held 2>&1 & :")
        self.shell.wait("grep -q bound /tmp/held", PATIENCE)
        try:
            yield
        finally:
            self.shell("pkill xsk")
            self.unbound()

    def unbound(self) -> None:
        """Wait until no socket is bound, so that no queue is reset any more."""
        self.shell.wait("! pgrep xsk >/dev/null", PATIENCE)
        self.shell(f"/xsk {DUT} {PATIENCE} free")

    def frames(self, receiver: str, *lengths: int) -> list[int]:
        """How many frames of the peer come to RECEIVER, of each length."""
        words = f"{PEER} {DUT} {receiver} {COUNT} {','.join(map(str, lengths))}"
        return [int(line) for line in self.shell(f"python3 /net_xdp frames {words}").splitlines()]

    def all_come(self, receiver: str, *lengths: int) -> None:
        """All frames, of each length."""
        came = self.frames(receiver, *lengths)
        assert came == [COUNT] * len(lengths), f"{came} of {COUNT} each, of {lengths} bytes"

    def sent(self) -> dict[str, int]:
        """What is counted of the first transmit queue."""
        lines = [line.strip().split(": ") for line in self.shell(f"ethtool -S {DUT}").splitlines() if ": " in line]
        return {name: int(value) for name, value in lines if name.startswith("tx0_") or name.startswith("tx_queue_0_")}


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest; afterwards its console shows nothing bad."""
    with ksft.scratch() as directory:
        program = directory / "xsk"
        # Nothing in the guest's root has a compiler, or this one's C library.
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-static", "-o", program, SOURCE], check=True)
        config.files = {"xsk": program, "net_xdp": PROGRAMS}
        config.default_devices = False
        options = [device.partition(",")[2] for device in config.devices]
        config.devices = []
        # The driver takes such sockets only of a device whose addresses are mapped.
        config.qemu_args += ["-device", "intel-iommu"]
        config.append = [*config.append, "intel_iommu=on", "iommu.strict=1", "net.ifnames=0"]
        for number in range(2):
            config.qemu_args += ["-netdev", f"hubport,id=end{number},hubid=0"]
            # Of PCI Express, which can be reset.
            port = f"pcie-root-port,id=port{number},bus=pcie.0,chassis={number},slot={number}"
            device = f"virtio-net-pci,netdev=end{number},bus=port{number},disable-legacy=on,iommu_platform=on"
            config.qemu_args += ["-device", port, "-device", ",".join([device, *options])]
        Shell.prepare(config)
        with Guest(config) as guest:
            world = World(Shell(guest))
            world.shell.wait(f"[ -e /sys/class/net/{PEER} ]", PATIENCE)
            world.shell(f"mountpoint -q {PINNED} || mount -t bpf none {PINNED}")
            world.shell(f"python3 /net_xdp load {PINNED} {PEER}")
            for interface in (DUT, PEER):
                # What nobody asked for is not sent.
                world.shell(f"echo 1 >/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
                world.shell(f"ip link set {interface} up promisc on")
            # A buffer has room for that.
            world.shell(f"ip link set {DUT} mtu 1500")
            world.shell.wait(f"[ $(cat /sys/class/net/{PEER}/carrier) = 1 ]", PATIENCE)
            taint = world.shell("cat /sys/module/virtio_net/taint")
            assert ("O" in taint) == RUST, taint
            yield world
            world.shell.start("exit")
            ksft.passed(guest)


def frames_cross_the_wire(world: World) -> None:
    """Both ways, in buffers of the socket, and are counted; the driver works as before when it is gone."""
    before = world.sent()
    world.cross()
    after = world.sent()
    assert sum(after.values()) > sum(before.values()), (before, after)
    name = next(name for name in after if name.endswith("xdp_tx"))
    assert after[name] - before[name] == BATCHES * 16, (before, after)
    world.unbound()
    world.all_come(DUT, *LENGTHS)


def sockets_come_and_go_under_traffic(world: World) -> None:
    """While frames come for the stack, of which those are lost that are in queues that are reset."""
    frames = f"python3 /net_xdp frames {PEER} {DUT} {DUT} 6000 1000"
    world.shell(f"rm -f /tmp/done; ({frames} >/tmp/came; echo >/tmp/done) 2>/dev/null & :")
    for _ in range(5):
        world.shell(f"/xsk {DUT} {PATIENCE} {PEER} 5 lossy")
        world.unbound()
    world.shell.wait("[ -e /tmp/done ]", PATIENCE)
    world.all_come(DUT, *LENGTHS)
    world.cross()
    world.unbound()


def the_stack_has_what_no_socket_wants(world: World) -> None:
    """Without a program, and with one that passes packets; in several buffers where there are."""
    lengths = (*LENGTHS, LONGEST) if JUMBO else LENGTHS
    with world.bound():
        world.all_come(DUT, *lengths)
        world.shell(f"ip link set dev {DUT} xdpdrv pinned {PINNED}/pass")
        world.all_come(DUT, *LENGTHS)
        world.shell(f"ip link set dev {DUT} xdpdrv off")
        world.shell(f"ip link set dev {DUT} xdpdrv pinned {PINNED}/metadata")
        world.all_come(DUT, *LENGTHS)
        world.shell(f"ip link set dev {DUT} xdpdrv off")
        world.shell(f"ip link set dev {DUT} xdpdrv pinned {PINNED}/drop")
        assert world.frames(DUT, 1000) == [0]
        world.shell(f"ip link set dev {DUT} xdpdrv off")
        world.all_come(DUT, *LENGTHS)
    world.all_come(DUT, *LENGTHS)


def frames_are_sent_back(world: World) -> None:
    """From a buffer of a socket; the C driver drops them, since a copy of the kernel's has no room for a header."""
    with world.bound():
        world.shell(f"ip link set dev {DUT} xdpdrv pinned {PINNED}/tx")
        if RUST:
            world.all_come(PEER, *LENGTHS)
        else:
            assert world.frames(PEER, 1000) == [0]
        world.shell(f"ip link set dev {DUT} xdpdrv off")


def queues_change_their_size(world: World) -> None:
    """While frames cross."""
    world.begin(BATCHES * 2)
    for size in (64, 128, 32, 256):
        world.shell(f"ethtool -G {DUT} rx {size} tx {max(size, 64)}")
    world.still_crossing()
    world.end()
    world.unbound()
    world.all_come(DUT, *LENGTHS)


def an_interface_is_brought_down(world: World) -> None:
    """And up, while a socket is bound, which then cannot send; afterwards it works."""
    with world.bound():
        world.shell(f"ip link set {DUT} down && ip link set {DUT} up")
        world.all_come(DUT, *LENGTHS)
    world.cross()
    world.unbound()


def sockets_stay_over_resets(world: World) -> None:
    """And over sleep; the C driver forgets them, and has a null pointer when they are closed."""
    world.begin(BATCHES * 2)
    for _ in range(3):
        world.shell(f"echo 1 >{FUNCTION}/reset")
    world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test")
    world.shell("echo mem >/sys/power/state")
    world.still_crossing()
    world.end()
    world.unbound()
    world.all_come(DUT, *LENGTHS)
    # Closed while the interface is away, and bound again.
    with world.bound():
        world.shell(f"echo 1 >{FUNCTION}/reset")
    world.cross()
    world.unbound()


def a_driver_goes_with_sockets(world: World) -> None:
    """It is unbound while one is bound, which hears of it, and works when it is bound again."""
    device = world.shell(f"echo {DEVICE}")
    with world.bound():
        world.shell(f"echo {device} >{DRIVER}/unbind && echo {device} >{DRIVER}/bind")
        world.shell.wait(f"[ -e /sys/class/net/{DUT} ]", PATIENCE)
        world.shell(f"echo 1 >/proc/sys/net/ipv6/conf/{DUT}/disable_ipv6")
        world.shell(f"ip link set {DUT} up promisc on mtu 1500")
    world.shell.wait(f"[ $(cat /sys/class/net/{DUT}/carrier) = 1 ]", PATIENCE)
    world.cross()
    world.unbound()


CASES = (
    frames_cross_the_wire,
    sockets_come_and_go_under_traffic,
    the_stack_has_what_no_socket_wants,
    frames_are_sent_back,
    queues_change_their_size,
    an_interface_is_brought_down,
)

if __name__ == "__main__":
    ksft.run_in_one(healthy_guest, *CASES, *((sockets_stay_over_resets, a_driver_goes_with_sockets) if RUST else ()))
