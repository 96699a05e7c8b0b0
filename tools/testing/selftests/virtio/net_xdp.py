#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Programs of XDP on the network driver, Rust and C: two wires with two devices each, frames that are passed, dropped,
sent back and redirected from one wire to the other; what is counted; what is refused; queues of other sizes, and
that do not interrupt; resets and sleep.

Two devices of QEMU 10.0 on one hub, packed and with event indices, stall after some hundred packets, with the C driver
as with this one: so not these two together.

What `--device net` has are options of all four.

# guest *: --root full --timeout 900
# long split: --kernel release
# long packed-small: --kernel release --device net,packed=on,event_idx=off,mrg_rxbuf=off
# guest jumbo: --kernel release --device net,host_mtu=9000
# guest big: --kernel release --device net,mrg_rxbuf=off,host_mtu=9000
# long c: --kernel release --swap virtio_net=c
# long c-jumbo: --kernel release --device net,host_mtu=9000 --swap virtio_net=c
# long small: --kernel release --device net,mrg_rxbuf=off
# long packed: --kernel release --device net,packed=on,event_idx=off
# long debug-iommu: --kernel debug --memory 1024 --timeout 3600 --device net,iommu_platform=on
# long hash: --kernel release --device net,rss=on,hash=on
# long debug-jumbo: --kernel debug --memory 1024 --timeout 3600 --device net,host_mtu=9000
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

PROGRAM = Path(__file__).resolve().parent / "programs/net_xdp.py"
# Seconds until something is as it should be: the debug kernel under TCG, on a busy host.
PATIENCE = 60
ARGUMENTS = " ".join(sys.argv)
RUST = "virtio_net=c" not in ARGUMENTS
MERGES = "mrg_rxbuf=off" not in ARGUMENTS
JUMBO = "host_mtu=9000" in ARGUMENTS
PINNED = "/sys/fs/bpf"
# The device with the program and its peer; on the other wire, where it redirects to and the peer of that.
DUT, PEER, TARGET, FAR = (f"eth{number}" for number in range(4))
# The debug kernel is ten times slower.
COUNT = 30 if "--kernel debug" in ARGUMENTS else 100
# Lengths of frames: the shortest, as long as the usual MTU, and as the largest one.
LENGTHS = (60, 1000, 1514)
LONGEST = 9014
FUNCTION = f"$(readlink -f /sys/class/net/{DUT}/device/..)"
COUNTED = ("drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops")


class World:
    """A shell in the guest, and its four interfaces."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        # Of several buffers, where there are.
        self.frags = "frags_" if JUMBO else ""
        self.lengths = (*LENGTHS, LONGEST) if JUMBO else LENGTHS

    def attach(self, name: str, interface: str = DUT) -> None:
        """Run a program on what INTERFACE receives."""
        self.shell(f"ip link set dev {interface} xdpdrv pinned {PINNED}/{name}")

    def detach(self, interface: str = DUT) -> None:
        """Take it away."""
        self.shell(f"ip link set dev {interface} xdpdrv off")

    @contextlib.contextmanager
    def program(self, name: str, interface: str = DUT) -> Iterator[None]:
        """Have a program for a while."""
        self.attach(name, interface)
        try:
            yield
        finally:
            self.detach(interface)

    def refusal(self, name: str) -> str:
        """What is said when a program is refused."""
        return self.shell(f"! ip link set dev {DUT} xdpdrv pinned {PINNED}/{name} 2>&1")

    def frames(self, receiver: str, *lengths: int, inner: bool = False) -> list[int]:
        """How many frames of the peer come to RECEIVER, of each length."""
        words = [PEER, DUT, receiver, str(COUNT), ",".join(map(str, lengths)), *(["inner"] if inner else [])]
        return [int(line) for line in self.shell(f"python3 /net_xdp frames {' '.join(words)}").splitlines()]

    def numbers(self, interface: str = DUT) -> dict[str, int]:
        """What is counted of an interface, of all queues."""
        lines = self.shell(f"ethtool -S {interface}").splitlines()
        pairs = [line.strip().split(": ") for line in lines if ": " in line]
        sums: dict[str, int] = {}
        for name, value in pairs:
            way, _, rest = name.partition("_")
            if way[2:].isdigit():
                sums[way[:2] + "_" + rest] = sums.get(way[:2] + "_" + rest, 0) + int(value)
        return sums

    def counted(self, action: Callable[[], None]) -> dict[str, int]:
        """What is counted of the receive queues meanwhile, by the names of COUNTED."""
        before = self.numbers()
        action()
        after = self.numbers()
        return {name: after[f"rx_{name}"] - before[f"rx_{name}"] for name in COUNTED}

    def all_come(self, receiver: str, lengths: tuple[int, ...] = ()) -> None:
        """All frames, of each length."""
        lengths = lengths or self.lengths
        came = self.frames(receiver, *lengths)
        assert came == [COUNT] * len(lengths), f"{came} of {COUNT} each, of {lengths} bytes"

    def none_come(self, receiver: str) -> None:
        """Not one of them."""
        assert self.frames(receiver, LENGTHS[0]) == [0]


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest; afterwards its console shows nothing bad."""
    config.files = {"net_xdp": PROGRAM}
    config.default_devices = False
    options = [device.partition(",")[2] for device in config.devices]
    config.devices = []
    if "iommu_platform=on" in ARGUMENTS:
        config.qemu_args += ["-device", "intel-iommu"]
        config.append = [*config.append, "intel_iommu=on", "iommu.strict=1"]
    for number in range(4):
        config.qemu_args += ["-netdev", f"hubport,id=end{number},hubid={number // 2}"]
        # Of PCI Express, which can be reset.
        port = f"pcie-root-port,id=port{number},bus=pcie.0,chassis={number},slot={number}"
        device = ",".join([f"virtio-net-pci,netdev=end{number},bus=port{number},disable-legacy=on", *options])
        config.qemu_args += ["-device", port, "-device", device]
    config.append = [*config.append, "net.ifnames=0"]
    Shell.prepare(config)
    with Guest(config) as guest:
        world = World(Shell(guest))
        world.shell.wait(f"[ -e /sys/class/net/{FAR} ]", PATIENCE)
        world.shell(f"mountpoint -q {PINNED} || mount -t bpf none {PINNED}")
        world.shell(f"python3 /net_xdp load {PINNED} {TARGET}")
        for interface in (DUT, PEER, TARGET, FAR):
            # What nobody asked for is not sent.
            world.shell(f"echo 1 >/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
            world.shell(f"ip link set {interface} up promisc on")
        world.shell.wait(f"[ $(cat /sys/class/net/{FAR}/carrier) = 1 ]", PATIENCE)
        yield world
        world.shell.start("exit")
        ksft.passed(guest)


def frames_come_without_a_program(world: World) -> None:
    """So what follows is about programs."""
    taint = world.shell("cat /sys/module/virtio_net/taint")
    assert ("O" in taint) == RUST, taint
    world.all_come(DUT)


def passed_frames_come(world: World) -> None:
    """All of them, and they are counted; with the interface up, and brought up afterwards."""
    with world.program(f"{world.frags}pass"):
        counts = world.counted(lambda: world.all_come(DUT))
        assert counts["xdp_packets"] >= COUNT * len(world.lengths), counts
        assert counts["xdp_drops"] == counts["drops"] == 0, counts
        world.shell(f"ip link set {DUT} down && ip link set {DUT} up && ip -d link show {DUT} | grep -q prog/xdp")
        world.all_come(DUT)
    world.all_come(DUT)


def dropped_frames_do_not_come(world: World) -> None:
    """Whatever a program says that is no verdict, too, which is traced; afterwards they come again."""
    events = "/sys/kernel/tracing/events/xdp/xdp_exception/enable"
    world.shell(f"mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing; echo 1 >{events}")
    traced = 0
    for name in ("drop", "aborted", "invalid"):
        with world.program(f"{world.frags}{name}"):
            counts = world.counted(lambda: world.none_come(DUT))
            assert counts["xdp_drops"] == counts["drops"] == counts["xdp_packets"] >= COUNT, counts
            traced += 0 if name == "drop" else counts["xdp_drops"]
        world.all_come(DUT, LENGTHS)
    assert int(world.shell("grep -c xdp_exception: /sys/kernel/tracing/trace")) == traced
    world.shell(f"echo 0 >{events}; echo >/sys/kernel/tracing/trace")


def frames_are_sent_back(world: World) -> None:
    """To who sent them, and not to the stack."""
    with world.program(f"{world.frags}tx"):
        counts = world.counted(lambda: world.all_come(PEER))
        assert counts["xdp_tx"] == counts["xdp_packets"] >= COUNT * len(world.lengths), counts
        world.none_come(DUT)
        sent = world.numbers()
        assert sent["tx_xdp_tx"] >= counts["xdp_tx"] and sent["tx_xdp_tx_drops"] == 0, sent


def frames_are_redirected(world: World) -> None:
    """To the other wire, if the device there has a program too."""
    with world.program(f"{world.frags}redirect"):
        world.none_come(FAR)
        with world.program(f"{world.frags}pass", TARGET):
            before = world.numbers(TARGET)
            counts = world.counted(lambda: world.all_come(FAR))
            assert counts["xdp_redirects"] == counts["xdp_packets"] >= COUNT * len(world.lengths), counts
            after = world.numbers(TARGET)
            assert after["tx_xdp_tx"] - before["tx_xdp_tx"] == counts["xdp_redirects"], after
            assert after["tx_xdp_tx_drops"] == before["tx_xdp_tx_drops"], after
        world.none_come(FAR)
    world.all_come(DUT)


def programs_have_their_room(world: World) -> None:
    """Before the packet, and for metadata; what is in front of the inner frame is taken away."""
    for name in ("room", "metadata"):
        with world.program(f"{world.frags}{name}"):
            world.all_come(DUT)
    with world.program(f"{world.frags}strip"):
        assert world.frames(DUT, 900, inner=True) == [COUNT]


def programs_come_and_go_under_load(world: World) -> None:
    """One after the other, and none, while frames come."""
    world.shell(f"(python3 /net_xdp frames {PEER} {DUT} {DUT} 6000 1000 >/tmp/came; echo >/tmp/done) 2>/dev/null & :")
    names = " ".join(world.frags + name for name in ("pass", "tx", "drop", "redirect"))
    attach = f"ip -force link set dev {DUT} xdpdrv pinned {PINNED}/$name || exit 1"
    world.shell(
        f"(while ! [ -e /tmp/done ]; do for name in {names}; do {attach}; done; ip link set dev {DUT} xdpdrv off; done)"
    )
    world.shell(f"ip link set dev {DUT} xdpdrv off; rm /tmp/done")
    world.all_come(DUT)


def settings_are_kept_from_programs(world: World) -> None:
    """The number of queues stays while there is a program."""
    world.shell(f"ethtool -L {DUT} combined 1")
    with world.program(f"{world.frags}pass"):
        world.shell(f"! ethtool -L {DUT} combined 1 2>/dev/null || ethtool -l {DUT} | grep -q 'Combined:.*1'")
    if JUMBO:
        assert "MTU" in world.refusal("pass")
        world.shell(f"ip link set {DUT} mtu 1500")
        with world.program("pass"):
            world.all_come(DUT, LENGTHS)
        world.shell(f"ip link set {DUT} mtu 9000")


def what_cannot_be_is_refused(world: World) -> None:
    """With the reason; the C driver takes it, and never runs it."""
    text = world.refusal("pass")
    assert "mergeable buffers" in text, text
    world.shell(f"! ip -d link show {DUT} | grep -q prog/xdp")
    world.all_come(DUT)


def a_program_stays_over_resets(world: World) -> None:
    """And over sleep, with the interface up and down."""
    with world.program(f"{world.frags}tx"):
        for _ in range(3):
            world.shell(f"echo 1 >{FUNCTION}/reset")
            world.all_come(PEER, LENGTHS[:1])
        world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test")
        world.shell("echo mem >/sys/power/state")
        world.all_come(PEER)
        world.shell(f"ip link set {DUT} down && echo mem >/sys/power/state && ip link set {DUT} up")
        world.all_come(PEER, LENGTHS[:1])
        # Frames on their way into a device that is reset.
        frames = f"python3 /net_xdp frames {PEER} {DUT} {PEER} 4000 1000"
        world.shell(f"({frames} >/dev/null; echo >/tmp/done) 2>/dev/null & :")
        world.shell(f"(while ! [ -e /tmp/done ]; do echo 1 >{FUNCTION}/reset; sleep 0.2; done); rm /tmp/done")
        world.all_come(PEER)
    world.all_come(DUT)


def queues_are_resized_with_a_program(world: World) -> None:
    """Those to receive have room for it afterwards, too."""
    with world.program(f"{world.frags}tx"):
        for size in (128, 256):
            world.shell(f"ethtool -G {DUT} rx {size} tx {size}")
            world.all_come(PEER)


def sent_frames_are_freed_at_once(world: World) -> None:
    """And not by a packet that comes later, where the device does not say when it has sent packets (`tx-frames 0`)."""

    def say(frames: int) -> None:
        world.shell(f"ip link set {DUT} down && ethtool -C {DUT} tx-frames {frames} && ip link set {DUT} up")

    path = f"/sys/kernel/debug/virtio/$(basename $(readlink -f /sys/class/net/{DUT}/device))/queues"
    # Of queues to send: as many descriptors are free as there are.
    unsent = f"awk '$2 ~ /^output/ && $3 != $4' {path}"
    assert world.shell(f"awk 'NR == 1 {{ print $2, $3, $4 }}' {path}") == "name size num_free"
    say(0)
    with world.program(f"{world.frags}tx"):
        world.all_come(PEER)
        world.shell.wait(f'[ -z "$({unsent})" ]', PATIENCE)
    say(1)


def the_driver_goes_with_a_program(world: World) -> None:
    """Unbound and bound: a new binding starts without one."""
    world.attach(f"{world.frags}tx")
    world.shell(f"basename $(readlink -f /sys/class/net/{DUT}/device) >/tmp/device")
    world.shell("cd /sys/bus/virtio/drivers/virtio_net; cat /tmp/device >unbind; cat /tmp/device >bind; cd /")
    world.shell.wait(f"[ -e /sys/class/net/{DUT} ]", PATIENCE)
    world.shell(f"udevadm settle; echo 1 >/proc/sys/net/ipv6/conf/{DUT}/disable_ipv6; ip link set {DUT} up promisc on")
    world.all_come(DUT)


def cases() -> list[Callable[[World], None]]:
    """Those that the device is for."""
    if JUMBO and not MERGES:
        return [frames_come_without_a_program, what_cannot_be_is_refused]
    chosen = [
        frames_come_without_a_program,
        passed_frames_come,
        dropped_frames_do_not_come,
        frames_are_sent_back,
        frames_are_redirected,
        programs_have_their_room,
        programs_come_and_go_under_load,
        settings_are_kept_from_programs,
    ]
    if RUST:
        # The C driver has no resets, and forgets its program in sleep.
        chosen += [
            queues_are_resized_with_a_program,
            sent_frames_are_freed_at_once,
            a_program_stays_over_resets,
        ]
    return [*chosen, the_driver_goes_with_a_program]


if __name__ == "__main__":
    ksft.run_in_one(healthy_guest, *cases())
