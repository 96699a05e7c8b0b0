#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The kernel's C drivers on the Rust core, with somebody at the other end: console, balloon, keyboard, network, 9p.

# guest *: --swap virtio_net=c
# guest split: --kernel release
# long packed: --kernel release --qemu "-global virtio-device.packed=on"
# guest intx-1cpu: --kernel release --smp 1 --append vectors=0
# long page-per-vq: --kernel release --qemu "-global virtio-pci.page-per-vq=on"
# guest debug: --kernel debug --timeout 600
"""

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

MIB = 1 << 20
# What a stream or a transfer has to take, in seconds: the debug kernel under TCG, on a busy host.
PATIENCE = 120
INFLATED = 128 * MIB
MEMORY = 512 * MIB


@dataclass
class World:
    """A guest with a shell, and the other ends of its devices."""

    guest: Guest
    shell: Shell
    port: socket.socket
    share: Path


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest with all devices; afterwards its console shows nothing bad."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdrivers-")))
        share = directory / "share"
        share.mkdir()
        vectors = ",vectors=0" if "vectors=0" in config.append else ""
        config.default_devices = False
        config.devices = [
            f"serial,id=serial0{vectors}",
            "virtserialport,bus=serial0.0,chardev=port,name=port",
            # A balloon has no vectors to choose.
            "balloon,id=balloon0",
            "keyboard",
            f"net{vectors}",
            f"9p,path={share}{vectors}",
        ]
        config.qemu_args += ["-chardev", f"socket,id=port,path={directory}/port,server=on,wait=off"]
        # evdev is no module of virtio, and nothing asks for it by alias.
        config.more_modules = ["evdev", "9p"]
        # Nobody repeats keys there, and QEMU says so of each such event.
        config.allow = [*config.allow, "virtio_input_hid_handle_status: unknown type 20"]
        Shell.prepare(config)
        guest = stack.enter_context(Guest(config))
        shell = Shell(guest)
        shell("modprobe -a evdev 9p virtio_console virtio_input")
        port = stack.enter_context(socket.socket(socket.AF_UNIX))
        port.connect(f"{directory}/port")
        port.settimeout(PATIENCE)
        yield World(guest, shell, port, share)
        shell.start("exit")
        ksft.passed(guest)


def the_core_is_rust(world: World) -> None:
    """The modules of the core are out of tree, those of the drivers are not."""
    for module in ("virtio_ring", "virtio", "virtio_pci"):
        assert world.shell(f"cat /sys/module/{module}/taint") == "O", module
    for module in ("virtio_console", "virtio_balloon", "virtio_input", "virtio_net", "9pnet_virtio"):
        assert world.shell(f"cat /sys/module/{module}/taint") == "", module


def console_carries_a_mebibyte_in(world: World) -> None:
    """What the host writes to a port is what the guest reads."""
    content = os.urandom(MIB)
    world.shell.start(f"head -c {MIB} /dev/vport0p1 | sha256sum")
    time.sleep(1)
    world.port.sendall(content)
    printed, status = world.shell.result()
    assert status == 0
    assert printed.split()[0] == hashlib.sha256(content).hexdigest(), printed


def console_carries_a_mebibyte_out(world: World) -> None:
    """What the guest writes to a port is what the host reads."""
    world.shell(f"head -c {MIB} /dev/urandom >/tmp/out")
    world.shell.start("cat /tmp/out >/dev/vport0p1")
    received = exactly(world.port, MIB)
    assert world.shell.result()[1] == 0
    assert world.shell("sha256sum /tmp/out").split()[0] == hashlib.sha256(received).hexdigest()


def exactly(stream: socket.socket, size: int) -> bytes:
    """SIZE bytes of STREAM."""
    received = bytearray()
    while len(received) < size:
        data = stream.recv(min(65536, size - len(received)))
        assert data, f"the stream ended after {len(received)} bytes"
        received += data
    return bytes(received)


def free_kib(world: World) -> int:
    """Free memory of the guest."""
    return int(world.shell("awk '/^MemFree/ { print $2 }' /proc/meminfo"))


def balloon_reaches(world: World, size: int) -> None:
    """Ask the guest to keep SIZE bytes, and wait until it does."""
    monitor = world.guest.qmp()
    monitor.command("balloon", value=size)
    deadline = time.monotonic() + PATIENCE
    while (actual := monitor.command("query-balloon")["actual"]) != size:
        assert time.monotonic() < deadline, f"the balloon is at {actual}, not at {size}"
        time.sleep(0.2)


def balloon_takes_and_gives_back(world: World) -> None:
    """Inflated and deflated three times: memory that is free goes, and comes back."""
    for _ in range(3):
        before = free_kib(world)
        balloon_reaches(world, MEMORY - INFLATED)
        taken = free_kib(world)
        assert before - taken > INFLATED // 2 >> 10, f"free: {before} KiB, with the balloon {taken} KiB"
        balloon_reaches(world, MEMORY)
        # Others may have taken some of it meanwhile.
        after = free_kib(world)
        assert after - taken > INFLATED // 2 >> 10, f"free: {taken} KiB, without the balloon {after} KiB"


def keyboard_types(world: World) -> None:
    """Keys that the host presses arrive, in order, each pressed and released."""
    keys = {"a": 30, "b": 48, "ret": 28}
    # A struct input_event is 24 bytes; a key is KEY and SYN, twice.
    events = len(keys) * 4
    world.shell("cat /proc/bus/input/devices | grep -A 4 'QEMU Virtio Keyboard'")
    world.shell.start(
        "name=$(basename /sys/bus/virtio/drivers/virtio_input/virtio*/input/input*/event*); "
        f"head -c {24 * events} /dev/input/$name | od -A n -v -t u2 -w24"
    )
    time.sleep(2)
    for key in keys:
        world.guest.qmp().command("send-key", keys=[{"type": "qcode", "data": key}], **{"hold-time": 20})
        time.sleep(0.2)
    printed, status = world.shell.result()
    assert status == 0
    # Type, code and value of each event.
    seen = [tuple(int(word) for word in line.split()[8:11]) for line in printed.splitlines()]
    pressed = [(code, value) for kind, code, value in seen if kind == 1]
    assert pressed == [(code, value) for code in keys.values() for value in (1, 0)], printed


def network_carries_both_ways(world: World) -> None:
    """Two streams with a server on the host, and what arrives is what was sent."""
    content = os.urandom(4 * MIB)
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)

        def serve() -> None:
            for out in (True, False):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(PATIENCE)
                    if out:
                        connection.sendall(content)
                    else:
                        while data := connection.recv(65536):
                            received.extend(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        number = server.getsockname()[1]
        world.shell("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0")
        digest = world.shell(f"nc 10.0.2.2 {number} >/tmp/in; sha256sum /tmp/in").split()[0]
        assert digest == hashlib.sha256(content).hexdigest(), "the guest received something else"
        world.shell(f"nc 10.0.2.2 {number} </tmp/in")
        thread.join(PATIENCE)
    assert bytes(received) == content, f"the host received {len(received)} bytes, or others"


def tree_is_copied_both_ways(world: World) -> None:
    """A tree of the host's is copied by the guest, and what it wrote is on the host."""
    source = world.share / "source"
    shutil.copytree(Path(__file__).parent, source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "large").write_bytes(os.urandom(4 * MIB))
    world.shell("mkdir -p /tmp/share; mount -t 9p -o trans=virtio,version=9p2000.L share0 /tmp/share")
    world.shell("cp -a /tmp/share/source /tmp/copy; cp -a /tmp/copy /tmp/share/written; sync; umount /tmp/share")
    names = sorted(path.relative_to(source) for path in source.rglob("*"))
    assert len(names) > 10
    written = world.share / "written"
    assert sorted(path.relative_to(written) for path in written.rglob("*")) == names
    for name in names:
        if (source / name).is_file():
            assert (written / name).read_bytes() == (source / name).read_bytes(), f"{name} differs"


def all_can_be_bound_again(world: World) -> None:
    """Each driver is unbound and bound, and each device is ready afterwards."""
    world.shell(
        "(cd /sys/bus/virtio/drivers; for device in */virtio*; do driver=${device%/*}; device=${device#*/}; "
        "echo $device >$driver/unbind && echo $device >$driver/bind || exit 1; done) && "
        "! cat /sys/bus/virtio/devices/*/status | grep -v 0x0000000f"
    )


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        the_core_is_rust,
        console_carries_a_mebibyte_in,
        console_carries_a_mebibyte_out,
        balloon_takes_and_gives_back,
        keyboard_types,
        network_carries_both_ways,
        tree_is_copied_both_ways,
        all_can_be_bound_again,
        keyboard_types,
        balloon_takes_and_gives_back,
    )
