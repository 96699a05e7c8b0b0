#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The entropy driver, seen from the host: exact bytes, unplugging, a silent device, a reset.

# guest release-split: --kernel release
# long release-packed: --kernel release --append packed=on
# long debug-split: --kernel debug
# long debug-packed: --kernel debug --append packed=on
"""

import base64
import contextlib
import mmap
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from guest import ksft, shared_ram
from guest.run import Config, Guest

# Without quality the core's own thread reads once at first, and then once a minute.
NO_FILL = "rng_core.default_quality=0"
THREAD_READS = 4
# Bytes of one read of the core; it hands out parts of one from the end.
READ = 64
SAMPLE = 1 << 17
# Bytes for counting notifications.
SIZE = 1 << 19
PORT = "-device pcie-root-port,id=port0,bus=pcie.0,chassis=1,slot=1"


def layout(config: Config) -> str:
    """Properties of the device: the layout that the header asks for in the kernel's command line."""
    return ",packed=on" if "packed=on" in config.append else ""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the files of one case."""
    with tempfile.TemporaryDirectory(prefix="rng-") as name:
        yield Path(name)


def alone(config: Config, device: str) -> None:
    """DEVICE is the only virtio device of the guest."""
    config.default_devices = False
    config.devices = [device]
    config.append = [*config.append, NO_FILL]


def in_order(received: bytes, content: bytes) -> None:
    """RECEIVED is CONTENT, in order, but for whole reads that the core's own thread took."""
    assert len(received) % READ == 0
    at = taken = 0
    for start in range(0, len(received), READ):
        part = received[start : start + READ]
        while content[at : at + READ] != part:
            taken += 1
            at += READ
            assert taken <= THREAD_READS, f"byte {start} of what was read is not the host's byte {start + READ}"
        at += READ


def exact_bytes(config: Config) -> None:
    """What is read is the host's file, in order: nothing is lost, nothing repeated."""
    with scratch() as directory:
        source = directory / "entropy"
        content = os.urandom(SAMPLE + (1 << 16))
        source.write_bytes(content)
        alone(config, f"rng,file={source}{layout(config)}")
        # Other sizes would have the core hand out parts of a read from its end.
        config.command = (
            f"dd if=/dev/hwrng bs={READ} count={SAMPLE // 2 // READ} iflag=fullblock 2>/dev/null >/tmp/a && "
            f"dd if=/dev/hwrng bs=4096 count={SAMPLE // 2 // 4096} iflag=fullblock 2>/dev/null >>/tmp/a && "
            "base64 -w 0 /tmp/a && echo"
        )
        with Guest(config) as guest:
            received = base64.b64decode(guest.expect(r"^([A-Za-z0-9+/=]{1000,})").group(1))
            ksft.passed(guest)
        assert len(received) == SAMPLE, f"the guest read {len(received)} bytes, not {SAMPLE}"
        in_order(received, content)


def short_completions(config: Config) -> None:
    """A host that gives few bytes at a time loses none of them."""
    with scratch() as directory:
        fifo = directory / "entropy"
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        alone(config, f"rng,file={fifo}{layout(config)}")
        config.stdin = True
        count = 16
        config.command = (
            f"echo ready; dd if=/dev/hwrng bs={READ} count={count} iflag=fullblock 2>/dev/null >/tmp/a; "
            "base64 -w 0 /tmp/a; echo"
        )
        content = os.urandom(READ * (count + THREAD_READS))
        try:
            with Guest(config) as guest:
                guest.expect(r"^ready")
                # 7 and 64 have no common divisor: parts of a buffer end everywhere in a read.
                for at in range(0, len(content), 7):
                    os.write(writer, content[at : at + 7])
                    time.sleep(0.02)
                received = base64.b64decode(guest.expect(r"^([A-Za-z0-9+/=]{1000,})").group(1))
                ksft.passed(guest)
        finally:
            os.close(writer)
        assert len(received) == READ * count, f"the guest read {len(received)} bytes"
        in_order(received, content)


def unplug_during_read(config: Config) -> None:
    """A reader that waits for a silent device gets an error when the device is unplugged."""
    with scratch() as directory:
        fifo = directory / "silence"
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        config.default_devices = False
        config.append = [*config.append, NO_FILL]
        config.qemu_args = [
            *PORT.split(),
            *f"-object rng-random,id=entropy,filename={fifo}".split(),
            *f"-device virtio-rng-pci,id=rng0,bus=port0,rng=entropy{layout(config)}".split(),
        ]
        config.command = (
            "until grep -q virtio_rng.0 /sys/class/misc/hw_random/rng_current; do usleep 100000; done; "
            "{ head -c 64 /dev/hwrng >/dev/null; echo ended $?; } 2>&1 & sleep 2; echo waiting; wait; "
            'until [ -z "$(ls /sys/bus/virtio/devices)" ]; do usleep 100000; done; echo gone'
        )
        try:
            with Guest(config) as guest:
                guest.expect(r"^waiting")
                begin = time.monotonic()
                guest.qmp().command("device_del", id="rng0")
                guest.expect(r"^ended [1-9]")
                guest.expect(r"^gone")
                took = time.monotonic() - begin
                ksft.passed(guest)
        finally:
            os.close(writer)
        assert took < 60, f"unplugging took {took:.0f} s"


def silent_device_times_out(config: Config) -> None:
    """A reader of a device that never answers gets an error in bounded time, and may be killed before."""
    with scratch() as directory:
        fifo = directory / "silence"
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        alone(config, f"rng,file={fifo}{layout(config)}")
        config.command = (
            "head -c 64 /dev/hwrng >/dev/null & reader=$!; sleep 1; kill $reader; wait $reader; "
            "echo killed $?; start=$(cut -d. -f1 /proc/uptime); dd if=/dev/hwrng bs=64 count=1 2>&1; "
            "echo ended $? after $(( $(cut -d. -f1 /proc/uptime) - start ))"
        )
        try:
            with Guest(config) as guest:
                guest.expect(r"^killed 143")
                guest.expect(r"timed out")
                after = int(guest.expect(r"^ended [1-9]\d* after (\d+)").group(1))
                ksft.passed(guest)
        finally:
            os.close(writer)
        # The core's own thread may wait first, as long, with the core's lock.
        assert 25 <= after <= 90, f"the read ended after {after} s"


def recovers_from_needs_reset(config: Config) -> None:
    """DEVICE_NEEDS_RESET: the driver resets the device, and who waits for it gets bytes."""
    with scratch() as directory:
        ram = directory / "ram"
        fifo = directory / "entropy"
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        alone(config, f"rng,file={fifo}{layout(config)}")
        shared_ram.share(config, ram)
        # QEMU says what the test makes it say.
        config.allow = [*config.allow, r"Guest says index|Invalid size for indirect"]
        config.command = (
            "until grep -q virtio_rng.0 /sys/class/misc/hw_random/rng_current; do usleep 100000; done; "
            "echo waiting; for i in $(seq 600); do dmesg | grep -q recovered && break; usleep 100000; done; "
            "dmesg | grep -E 'needs reset|recovered' | cut -d] -f2; "
            f"dd if=/dev/hwrng bs={READ} count=8 iflag=fullblock 2>/dev/null | wc -c; "
            "cat /sys/bus/virtio/devices/virtio0/status"
        )
        try:
            with Guest(config) as guest:
                guest.expect(r"^waiting")
                shared_ram.corrupt_queue(guest, ram, "packed=on" in guest.config.append)
                # Now the device looks at its queue.
                os.write(writer, os.urandom(READ))
                guest.expect(r"device needs reset")
                guest.expect(r"recovered")
                for _ in range(64):
                    os.write(writer, os.urandom(READ))
                guest.expect(rf"^{READ * 8}$")
                guest.expect(r"^0x0000000f$")
                ksft.passed(guest)
        finally:
            os.close(writer)


def wiped_when_handed_out(config: Config) -> None:
    """Of the bytes that the device wrote, those that were read are gone from the buffer, and only those."""
    size = 2048
    with scratch() as directory:
        ram = directory / "ram"
        source = directory / "entropy"
        # No byte is zero: what is zero was wiped.
        content = bytes(byte or 1 for byte in os.urandom(2 * size))
        source.write_bytes(content)
        alone(config, f"rng,file={source}{layout(config)}")
        shared_ram.share(config, ram)
        config.stdin = True
        config.command = (
            f"dd if=/dev/hwrng bs={READ} count=8 iflag=fullblock 2>/dev/null >/tmp/a; "
            "echo read $(wc -c </tmp/a); read end"
        )
        with Guest(config) as guest:
            guest.expect(rf"^read {READ * 8}$")
            first = next(
                (buffer for buffer in lent_buffers(guest, ram, size) if buffer.endswith(content[size - READ : size])),
                None,
            )
            guest.send("end")
            ksft.passed(guest)
        assert first, "no buffer of the queue holds what the host wrote"
        wiped = size - len(first.lstrip(b"\0"))
        assert READ * 8 <= wiped <= READ * (8 + THREAD_READS), f"{wiped} bytes wiped, {READ * 8} read"
        assert wiped % READ == 0, f"{wiped} bytes wiped: not whole reads"
        assert first[wiped:] == content[wiped:size], "bytes that nobody has read are not there any more"


def lent_buffers(guest: Guest, ram: Path, size: int) -> Iterator[bytes]:
    """What is in the buffers of SIZE bytes that the descriptors of the guest's queue 0 name."""
    queue = shared_ram.queue_status(guest)
    with ram.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        for index in range(queue["vring-num"]):
            at = queue["vring-desc"] + 16 * index
            address = int.from_bytes(memory[at : at + 8], "little")
            yield memory[address : address + size]


def notifications(config: Config, stack: str) -> tuple[int, int]:
    """Kicks and interrupts that QEMU sees while STACK reads SIZE bytes."""
    with scratch() as directory:
        log = directory / "trace"
        alone(config, f"rng,ioeventfd=off{layout(config)}")
        config.stack = stack
        config.stdin = True
        config.qemu_args = ["-trace", "virtio_queue_notify", "-trace", "virtio_notify", "-D", str(log)]
        config.command = (
            f"echo ready; read go; dd if=/dev/hwrng bs=4096 count={SIZE // 4096} iflag=fullblock | wc -c; read end"
        )
        with Guest(config) as guest:
            guest.expect(r"^ready")
            before = log.read_text()
            guest.send("go")
            guest.expect(rf"^{SIZE}$")
            during = log.read_text()[len(before) :]
            guest.send("end")
            ksft.passed(guest)
    return during.count("virtio_queue_notify "), during.count("virtio_notify ")


def a_sixteenth_of_the_notifications(config: Config) -> None:
    """For the same bytes, the device is kicked and interrupts at most a sixteenth as often as with C."""
    kicks, interrupts = notifications(config, "rust")
    c_kicks, c_interrupts = notifications(ksft.configuration("c"), "c")
    print(f"# {SIZE} bytes: kicks {kicks} (C: {c_kicks}), interrupts {interrupts} (C: {c_interrupts})")
    assert c_kicks > 0, "the trace of the C driver shows no kicks: nothing was measured"
    assert kicks * 16 <= c_kicks, f"{kicks} kicks, C needs {c_kicks}"
    assert interrupts * 16 <= c_interrupts, f"{interrupts} interrupts, C needs {c_interrupts}"


def several_devices(config: Config) -> None:
    """Three devices are three generators, and each can be chosen."""
    config.default_devices = False
    config.devices = [f"rng{layout(config)}"] * 3
    config.command = (
        "cd /sys/class/misc/hw_random; cat rng_available; for n in 0 1 2; do "
        "echo virtio_rng.$n >rng_current && cat rng_current && head -c 4096 /dev/hwrng | wc -c; done"
    )
    with Guest(config) as guest:
        names = guest.expect(r"virtio_rng").string.split()
        for number in range(3):
            guest.expect(rf"^virtio_rng\.{number}$")
            guest.expect(r"^4096$")
        ksft.passed(guest)
    assert sorted(name for name in names if re.match(r"virtio_rng\.", name)) == [
        "virtio_rng.0",
        "virtio_rng.1",
        "virtio_rng.2",
    ], f"available: {names}"


def function_level_reset(config: Config) -> None:
    """The function is reset under readers, ten times, and reading goes on."""
    # A thread for each processor: QEMU 10.0 may fail an assertion (iotlb_to_section) when a BAR goes under a reader.
    config.accel = "tcg-single"
    config.default_devices = False
    config.append = [*config.append, NO_FILL]
    config.qemu_args = [*PORT.split(), "-device", f"virtio-rng-pci,id=rng0,bus=port0{layout(config)}"]
    config.command = (
        "function=$(readlink -f /sys/bus/virtio/devices/virtio0/..); touch /tmp/load; "
        "while [ -e /tmp/load ]; do head -c 65536 /dev/hwrng >/dev/null 2>&1; done & "
        "for i in 1 2 3 4 5 6 7 8 9 10; do echo 1 >$function/reset || echo refused; done; rm /tmp/load; wait; "
        "head -c 65536 /dev/hwrng | wc -c; cat /sys/bus/virtio/devices/virtio0/status"
    )
    with Guest(config) as guest:
        assert guest.expect(r"^(65536|refused)$").group(1) == "65536", "the function cannot be reset"
        guest.expect(r"^0x0000000f$")
        ksft.passed(guest)


# On the debug kernel, which is slow: where memory changes hands.
DEBUG = (exact_bytes, unplug_during_read, recovers_from_needs_reset, function_level_reset)
ALL = (
    *DEBUG,
    wiped_when_handed_out,
    short_completions,
    silent_device_times_out,
    a_sixteenth_of_the_notifications,
    several_devices,
)

if __name__ == "__main__":
    ksft.run(*(DEBUG if "debug" in sys.argv else ALL))
