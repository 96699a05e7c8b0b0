#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Several pairs of queues of the Rust network driver, on a tap device of the host: `ethtool -L` under load, resets;
packets put together by the device or not (`ethtool -K`); programs of XDP, which take queues; with rss=on, packets
steered by a hash (`ethtool -X`); with hash=on, hashes for the stack (`ethtool -K rxhash`).

Skipped where tap devices cannot be made: that takes root, and /dev/net/tun.

# guest *: --root full --timeout 600
# long split: --kernel release
# guest packed-4cpu: --kernel release --smp 4 --qemu "-global virtio-net-pci.packed=on"
# guest rss: --kernel release --qemu "-global virtio-net-pci.rss=on -global virtio-net-pci.hash=on"
# long hash: --kernel release --qemu "-global virtio-net-pci.hash=on"
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

PROGRAM = Path(__file__).resolve().parent / "programs/net_xdp.py"
# Seconds until something is as it should be: the debug kernel under TCG, on a busy host.
PATIENCE = 60
PAIRS = 4
# Of the tap device and its name space; the process makes them its own.
NAME = f"vq{os.getpid()}"
HERE, THERE = "192.168.211.1", "192.168.211.2"
PORT = "pcie-root-port,id=port0,bus=pcie.0,chassis=0,slot=0"
FUNCTION = "$(readlink -f /sys/class/net/eth0/device/..)"
WORKS = f"ping -q -c 2 -i 0.1 -W 10 {HERE}"
# Each line that comes goes back; streams of their own, for other queues.
ECHO = f"""
import socketserver

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("{HERE}", 7), Echo).serve_forever()
"""
# Datagrams that nobody waits for.
KNOCK = f"""
import socket, time
for _ in range(5):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"knock", ("{THERE}", 9))
    time.sleep(0.2)
"""
# Pinned to one processor after the other, so that each of them sends.
SENDERS = f"""
import hashlib, os, socket, sys, threading
content = os.urandom(1 << 18)

def talk(cpu):
    os.sched_setaffinity(0, {{cpu}})
    for _ in range(int(sys.argv[1])):
        with socket.create_connection(("{HERE}", 7), 60) as wire:
            threading.Thread(target=wire.sendall, args=(content,)).start()
            back = bytearray()
            while len(back) < len(content):
                data = wire.recv(65536)
                if not data:
                    break
                back += data
        if bytes(back) != content:
            print("not what was sent")
            os._exit(1)

threads = [threading.Thread(target=talk, args=(cpu,)) for cpu in range(os.cpu_count())]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


# Whether the host may send packets on the tap device that are to be segmented: what the guest takes.
ETHTOOL = f"""
import ctypes, fcntl, socket, struct
value = (ctypes.c_uint32 * 2)(0x1e, 0)
request = struct.pack("16sP", b"{NAME}", ctypes.addressof(value))
fcntl.ioctl(socket.socket(), 0x8946, request)
print(value[1])
"""
# How many packets of IP come in while the host is pinged, and how many of them with a hash.
HASHES = f"""
import ctypes, os, socket, struct
code = [(0x20, 0, 0, 0xfffff020), (0x15, 0, 1, 0), (6, 0, 0, 0), (6, 0, 0, 0xffff)]
code = b"".join(struct.pack("HBBI", *line) for line in code)
room = ctypes.create_string_buffer(code)
wires = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800)) for _ in range(2)]
wires[1].setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 4, ctypes.addressof(room)))
os.system("{WORKS} >/dev/null")
for wire in wires:
    wire.setblocking(False)
    count = 0
    try:
        while wire.recv(65536):
            count += 1
    except BlockingIOError:
        print(count)
"""
RSS = "virtio-net-pci.rss=on" in " ".join(sys.argv)
HASH = "virtio-net-pci.hash=on" in " ".join(sys.argv)
KSFT_SKIP = 4
MAKE = ("ip", "tuntap", "add", "dev", NAME, "mode", "tap", "multi_queue", "vnet_hdr")


def can_be_made() -> bool:
    """Whether there can be tap devices here: one is made, and goes again."""
    if subprocess.run(MAKE, capture_output=True, check=False).returncode != 0:
        return False
    command("ip", "link", "del", NAME)
    return True


def command(*words: str) -> None:
    """Run a command on the host."""
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class World:
    """The guest, and a shell in it."""

    guest: Guest
    shell: Shell

    def cpus(self) -> int:
        """Processors of the guest."""
        return int(self.shell("nproc"))

    def channels(self) -> tuple[int, int]:
        """Pairs that there can be, and that there are."""
        found = [line.split()[1] for line in self.shell("ethtool -l eth0").splitlines() if line.startswith("Combined")]
        most, now = map(int, found)
        return most, now

    def numbers(self, name: str, ways: tuple[str, ...] = ("rx", "tx")) -> list[int]:
        """What is counted as NAME, `kicks`, say, of each queue: those to receive, those to send."""
        lines = self.shell("ethtool -S eth0").splitlines()
        values = dict(line.strip().split(": ") for line in lines if ": " in line)
        return [int(values[f"{way}{index}_{name}"]) for way in ways for index in range(self.channels()[1])]

    def queues(self) -> dict[str, dict[str, str]]:
        """The table of queues in debugfs, by their names."""
        path = "/sys/kernel/debug/virtio/$(basename $(readlink -f /sys/class/net/eth0/device))/queues"
        header, *lines = self.shell(f"cat {path}").splitlines()
        rows = [dict(zip(header.split(), line.split(), strict=True)) for line in lines]
        return {row["name"]: row for row in rows}

    def talk(self, rounds: int = 2) -> None:
        """Streams from each processor, whose bytes come back."""
        self.shell(f"python3 /senders {rounds}")


@contextlib.contextmanager
def tap() -> Iterator[None]:
    """A tap device of several queues, which no other name space of the host has to do with."""
    command(*MAKE)
    try:
        command("ip", "netns", "add", NAME)
        yield
    finally:
        for words in (["ip", "netns", "del", NAME], ["ip", "link", "del", NAME]):
            # It goes with its name space, once it is there.
            subprocess.run(words, capture_output=True, check=False)


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest; afterwards its console shows nothing bad."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(ksft.scratch())
        stack.enter_context(tap())
        (directory / "senders").write_text(SENDERS)
        (directory / "hashes").write_text(HASHES)
        scripts = {name: directory / name for name in ("senders", "hashes")}
        config.files = scripts | {"net_xdp": PROGRAM}
        config.default_devices = False
        net = f"tap,id=wire,ifname={NAME},script=no,downscript=no,queues={PAIRS}"
        device = f"virtio-net-pci,netdev=wire,bus=port0,mq=on,vectors={2 * PAIRS + 2},disable-legacy=on"
        config.qemu_args += ["-device", PORT, "-netdev", net, "-device", device]
        config.append = [*config.append, "net.ifnames=0"]
        Shell.prepare(config)
        guest = stack.enter_context(Guest(config))
        world = World(guest, Shell(guest))
        # By now QEMU has it; before, it would make another one.
        command("ip", "link", "set", NAME, "netns", NAME)
        command("ip", "-n", NAME, "addr", "add", f"{HERE}/24", "dev", NAME)
        command("ip", "-n", NAME, "link", "set", NAME, "up")
        echo = subprocess.Popen(["ip", "netns", "exec", NAME, "python3", "-c", ECHO])
        stack.callback(echo.wait)
        stack.callback(echo.kill)
        world.shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
        world.shell("[ -d /sys/kernel/debug/virtio ] || mount -t debugfs none /sys/kernel/debug")
        world.shell(f"ip link set eth0 up && ip addr add {THERE}/24 dev eth0 && {WORKS}")
        yield world
        world.shell.start("exit")
        ksft.passed(guest)


def there_is_a_pair_for_each_processor(world: World) -> None:
    """Of those that the device has, with interrupts, names and directories in sysfs."""
    assert world.shell("cat /sys/module/virtio_net/taint") == "O"
    pairs = min(PAIRS, world.cpus())
    assert world.channels() == (PAIRS, pairs)
    expected = [f"{way}.{index}" for index in range(PAIRS) for way in ("input", "output")]
    assert list(world.queues()) == [*expected, "control"], world.queues()
    for name in (*expected, "control"):
        world.shell(f"grep -q 'virtio.*-{name}$' /proc/interrupts")
    # Those to receive have directories only if the kernel steers packets.
    assert world.shell("ls -d /sys/class/net/eth0/queues/tx-* | wc -l") == str(pairs)


def each_pair_has_its_processor(world: World) -> None:
    """For its interrupts, and to send; all of them have a share."""
    masks = []
    for index in range(world.channels()[1]):
        sends = int(world.shell(f"cat /sys/class/net/eth0/queues/tx-{index}/xps_cpus").replace(",", ""), 16)
        for way in ("input", "output"):
            number = world.shell(f"sed -n 's/^ *\\([0-9]*\\):.*-{way}\\.{index}$/\\1/p' /proc/interrupts")
            hint = world.shell(f"cat /proc/irq/{number}/affinity_hint").replace(",", "")
            assert int(hint, 16) == sends, f"{way}.{index}: {hint}, sends {sends:#x}"
        masks.append(sends)
    assert sum(masks) == (1 << world.cpus()) - 1, masks


def all_pairs_are_used(world: World) -> None:
    """Streams of each processor go out and come in through a queue of their own."""
    before = world.numbers("kicks")
    world.talk()
    after = world.numbers("kicks")
    pairs = world.channels()[1]
    sent = [new - old for new, old in zip(after[pairs:], before[pairs:], strict=True)]
    assert all(sent), sent
    received = [int(row["used"]) for name, row in world.queues().items() if name.startswith("input")]
    assert all(received[:pairs]) and not any(received[pairs:]), received


def pairs_come_and_go(world: World) -> None:
    """As many as are asked for, with the interface up and down; not more than there are, and not none."""
    for count in (1, PAIRS, 3, 1, 2):
        world.shell(f"ethtool -L eth0 combined {count}")
        assert world.channels() == (PAIRS, count)
        assert world.shell("ls -d /sys/class/net/eth0/queues/tx-* | wc -l") == str(count)
        world.talk(1)
    world.shell("ip link set eth0 down && ethtool -L eth0 combined 4 && ip link set eth0 up")
    world.talk(1)
    world.shell("! ethtool -L eth0 combined 5 && ! ethtool -L eth0 combined 0 && ! ethtool -L eth0 rx 1")
    assert world.channels() == (PAIRS, 4)


def pairs_come_and_go_under_load(world: World) -> None:
    """What is sent comes back all the same."""
    world.shell("python3 /senders 12 >/tmp/sent 2>&1 & echo $! >/tmp/load")
    counts = "1 4 2 3"
    world.shell(f"for i in $(seq 10); do for n in {counts}; do ethtool -L eth0 combined $n; sleep 0.05; done; done")
    # It is a child of this shell.
    printed = world.shell("wait $(cat /tmp/load) && echo all of it; cat /tmp/sent")
    assert printed == "all of it", printed


def a_reset_leaves_them(world: World) -> None:
    """As many pairs as before, which the device uses again."""
    for count in (3, 1, PAIRS):
        world.shell(f"ethtool -L eth0 combined {count}; echo 1 >{FUNCTION}/reset")
        assert world.channels() == (PAIRS, count)
        world.shell.wait(WORKS, PATIENCE)
        # The sum of all that is asked for: of one pair, nothing is.
        world.talk(1)
        received = [int(row["used"]) for name, row in world.queues().items() if name.startswith("input")]
        assert any(received[1:count]) == (count > 1) and not any(received[count:]), received


def host_segments() -> bool:
    """Whether the guest is sent TCP packets that are longer than its MTU."""
    words = ["ip", "netns", "exec", NAME, "python3", "-c", ETHTOOL]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == "1"


def packets_are_put_together_or_not(world: World) -> None:
    """As ethtool says, also after a reset."""
    assert host_segments()
    for state in ("off", "on"):
        world.shell(f"ethtool -K eth0 rx-gro-hw {state}")
        assert host_segments() == (state == "on")
        world.talk(1)
        world.shell(f"echo 1 >{FUNCTION}/reset; ethtool -k eth0 | grep -q 'rx-gro-hw: {state}'")
        world.shell.wait(WORKS, PATIENCE)
        assert host_segments() == (state == "on")


def programs_take_queues_and_offloads(world: World) -> None:
    """A pair for each processor, if there are as many; whole packets, also after a reset; and all comes back."""
    pinned = "/sys/fs/bpf"
    attach = f"ip -force link set dev eth0 xdpdrv pinned {pinned}/"
    world.shell(f"mountpoint -q {pinned} || mount -t bpf none {pinned}; python3 /net_xdp load {pinned} eth0")
    cpus = world.cpus()
    own = cpus if cpus < PAIRS else 0
    pairs = PAIRS - own if own else 2
    world.shell(f"ethtool -L eth0 combined {pairs}; {attach}pass")
    for _ in range(2):
        assert not host_segments() and world.channels() == (PAIRS, pairs + own)
        assert world.shell("ls -d /sys/class/net/eth0/queues/tx-* | wc -l") == str(pairs)
        world.talk(1)
        assert sum(world.numbers("xdp_packets", ("rx",))) > 0
        world.shell("! ethtool -K eth0 rx-gro-hw off && ! ethtool -L eth0 combined 1")
        world.shell(f"echo 1 >{FUNCTION}/reset")
        world.shell.wait(WORKS, PATIENCE)
    before = world.numbers("xdp_tx", ("tx",))
    world.shell(f"{attach}tx")
    # They come back to who sent them, who does not know them.
    command("ip", "netns", "exec", NAME, "python3", "-c", KNOCK)
    counts = [new - old for new, old in zip(world.numbers("xdp_tx", ("tx",)), before, strict=True)]
    first = pairs if own else 0
    assert any(counts[first:]) and not any(counts[:first]), counts
    world.shell("ip link set dev eth0 xdpdrv off")
    assert host_segments() and world.channels() == (PAIRS, pairs)
    world.talk(1)


def received(world: World) -> list[int]:
    """Buffers that came through each queue in use while there were streams."""
    before = world.queues()
    world.talk(1)
    after = world.queues()
    names = [f"input.{index}" for index in range(world.channels()[1])]
    return [int(after[name]["used"]) - int(before[name]["used"]) for name in names]


def table(world: World) -> list[int]:
    """The queue of each value of the hash."""
    lines = world.shell("ethtool -x eth0 | grep '^ *[0-9]*: '").splitlines()
    return [int(entry) for line in lines for entry in line.split(":")[1].split()]


def is_one(counts: list[int], index: int) -> bool:
    """Whether nearly all packets, but those without a hash, came through queue INDEX."""
    return counts[index] * 10 > sum(counts) * 9


def packets_are_steered(world: World) -> None:
    """Over all queues, or to one, as the table says."""
    world.shell("ethtool -X eth0 default && ethtool -L eth0 combined 2")
    entries = table(world)
    assert entries == [index % 2 for index in range(len(entries))] and len(entries) == 128, entries
    assert "toeplitz: on" in world.shell("ethtool -x eth0")
    for queue in (1, 0):
        world.shell(f"ethtool -X eth0 start {queue} equal 1")
        assert set(table(world)) == {queue}
        counts = received(world)
        assert is_one(counts, queue), counts


def the_table_of_a_user_stays(world: World) -> None:
    """Over resets and more pairs; fewer are refused."""
    world.shell("ethtool -X eth0 start 1 equal 1")
    key = world.shell("ethtool -x eth0 | grep -A1 'hash key'")
    world.shell(f"echo 1 >{FUNCTION}/reset")
    world.shell.wait(WORKS, PATIENCE)
    assert set(table(world)) == {1} and world.shell("ethtool -x eth0 | grep -A1 'hash key'") == key
    counts = received(world)
    assert is_one(counts, 1), counts
    world.shell("ethtool -L eth0 combined 4 && ! ethtool -L eth0 combined 1")
    counts = received(world)
    assert world.channels() == (PAIRS, 4) and is_one(counts, 1), counts
    world.shell("ethtool -X eth0 default && ethtool -L eth0 combined 2")


def hashes_are_of_what_is_asked_for(world: World) -> None:
    """Of addresses alone, all streams are one; with a key of zeroes, everything is."""
    world.shell("ethtool -N eth0 rx-flow-hash tcp4 sd")
    assert "L4 bytes" not in world.shell("ethtool -n eth0 rx-flow-hash tcp4")
    counts = received(world)
    assert is_one(counts, counts.index(max(counts))), counts
    world.shell("ethtool -N eth0 rx-flow-hash tcp4 sdfn")
    assert "L4 bytes" in world.shell("ethtool -n eth0 rx-flow-hash tcp4")
    world.shell("! ethtool -N eth0 rx-flow-hash tcp4 s")
    size = len(world.shell("ethtool -x eth0 | grep -A1 'hash key' | tail -n 1").split(":"))
    world.shell(f"ethtool -X eth0 hkey {':'.join(['00'] * size)}")
    counts = received(world)
    assert is_one(counts, 0), counts


def hashes_reach_the_stack(world: World) -> None:
    """If it wants them, also after a reset; off, none do, and packets are steered all the same."""
    for state in ("off", "on", "off"):
        world.shell(f"ethtool -K eth0 rxhash {state} && ethtool -k eth0 | grep -q 'receive-hashing: {state}'")
        for _ in range(2):
            packets, hashed = map(int, world.shell("python3 /hashes").split())
            assert packets and hashed == (packets if state == "on" else 0), f"{state}: {hashed} of {packets}"
            world.shell(f"echo 1 >{FUNCTION}/reset")
            world.shell.wait(WORKS, PATIENCE)
    if RSS:
        packets_are_steered(world)


def sleep_leaves_them(world: World) -> None:
    """The same when the machine sleeps."""
    world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test")
    world.shell("ethtool -L eth0 combined 2 && echo mem >/sys/power/state")
    assert world.channels() == (PAIRS, 2)
    world.shell.wait(WORKS, PATIENCE)
    world.talk(1)


def the_driver_comes_and_goes(world: World) -> None:
    """Under load, all queues with it, and a program."""
    world.shell("ethtool -L eth0 combined 2; ip link set dev eth0 xdpdrv pinned /sys/fs/bpf/pass")
    device = world.shell("basename $(readlink -f /sys/class/net/eth0/device)")
    for _ in range(3):
        world.shell("timeout 2 python3 /senders 20 >/dev/null 2>&1 &")
        world.shell(f"cd /sys/bus/virtio/drivers/virtio_net; echo {device} >unbind; echo {device} >bind; cd /; wait")
        world.shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
        world.shell(f"udevadm settle; ip link set eth0 up && ip addr add {THERE}/24 dev eth0")
        world.shell.wait(WORKS, PATIENCE)
        world.talk(1)


if __name__ == "__main__":
    if not can_be_made():
        print("KTAP version 1\n1..0 # SKIP no tap device can be made: it takes root, and /dev/net/tun")
        sys.exit(KSFT_SKIP)
    ksft.run_in_one(
        healthy_guest,
        there_is_a_pair_for_each_processor,
        each_pair_has_its_processor,
        all_pairs_are_used,
        pairs_come_and_go,
        pairs_come_and_go_under_load,
        a_reset_leaves_them,
        packets_are_put_together_or_not,
        programs_take_queues_and_offloads,
        *((hashes_reach_the_stack,) if HASH else ()),
        *((packets_are_steered, the_table_of_a_user_stays, hashes_are_of_what_is_asked_for) if RSS else ()),
        sleep_leaves_them,
        the_driver_comes_and_goes,
    )
