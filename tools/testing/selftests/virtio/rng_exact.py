#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What the guest reads from /dev/hwrng is what the device gave: in order, nothing lost, nothing twice.

The device's entropy is a file of 64-bit numbers that count up, so every piece tells where it comes
from.  The kernel's own thread takes pieces for itself: one when the device appears, one a minute.

The `--device` of a guest below is completed with the file.
"""

# guest split: --kernel release --no-default-devices --device rng
# guest packed: --kernel release --no-default-devices --device rng,packed=on
# guest intx: --kernel release --no-default-devices --device rng,vectors=0
# guest debug: --kernel debug --no-default-devices --device rng

import itertools
import struct
import tempfile
from pathlib import Path

from guest.ksft import passed, run
from guest.run import Config, Guest

WORD = 8
FILE_WORDS = 1 << 18
READ_BYTES = 256 << 10
# What the kernel's thread takes at once (RNG_BUFFER_SIZE), and how often it may have done so here.
THREAD_BYTES = 64
THREAD_READS = 6


def read_through(config: Config, command: str) -> bytes:
    """The output of COMMAND in a guest whose entropy counts up."""
    with tempfile.TemporaryDirectory(prefix="guest-entropy-") as work:
        entropy = Path(work) / "entropy"
        entropy.write_bytes(b"".join(struct.pack(">Q", number) for number in range(FILE_WORDS)))
        config.devices = [f"{spec},file={entropy}" for spec in config.devices]
        config.command = command
        with Guest(config) as guest:
            passed(guest)
            return bytes(guest.output)


def check_order(data: bytes) -> None:
    """AssertionError unless DATA counts up, but for what the kernel's thread took."""
    if len(data) % WORD:
        raise AssertionError(f"{len(data)} bytes are not whole words")
    numbers = [number for (number,) in struct.iter_unpack(">Q", data)]
    gaps = []
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            gaps.append((before, after))
    first = numbers[0] * WORD
    lost = first + sum((after - before - 1) * WORD for before, after in gaps)
    backwards = [gap for gap in gaps if gap[1] <= gap[0]]
    if backwards:
        raise AssertionError(f"word {backwards[0][1]} came after word {backwards[0][0]}")
    if any((after - before - 1) * WORD % THREAD_BYTES for before, after in gaps) or first % THREAD_BYTES:
        raise AssertionError(f"pieces are missing that nobody took: {gaps[:3]}, first word {numbers[0]}")
    if lost > THREAD_READS * THREAD_BYTES:
        raise AssertionError(f"{lost} bytes are missing, more than the kernel's thread takes")


def exact_in_large_reads(config: Config) -> None:
    """Reads of 4096 bytes."""
    count = READ_BYTES // 4096
    data = read_through(config, f"dd if=/dev/hwrng bs=4096 count={count} iflag=fullblock 2>/dev/null")
    if len(data) != READ_BYTES:
        raise AssertionError(f"{len(data)} bytes came instead of {READ_BYTES}")
    check_order(data)


def exact_in_small_reads(config: Config) -> None:
    """Reads of 8 bytes: the rest of what the device wrote must not be thrown away."""
    data = read_through(config, "dd if=/dev/hwrng bs=8 count=2048 iflag=fullblock 2>/dev/null")
    if len(data) != 2048 * WORD:
        raise AssertionError(f"{len(data)} bytes came instead of {2048 * WORD}")
    check_order(data)


run(exact_in_large_reads, exact_in_small_reads)
