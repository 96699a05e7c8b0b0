# SPDX-License-Identifier: GPL-2.0
"""Reads a guest's console and QEMU's stderr for what must never be there."""

import re
from dataclasses import dataclass
from pathlib import Path

# What is wrong, and the line by which the kernel says so.
SPLATS = (
    ("a BUG", r"\bBUG: |kernel BUG at |BUG kmalloc|=+\s*BUG "),
    ("an Oops", r"\bOops\b|general protection fault|Unable to handle kernel|unable to handle page fault"),
    ("a WARNING", r"\bWARNING: "),
    ("a KASAN report", r"KASAN: "),
    ("a UBSAN report", r"UBSAN: "),
    (
        "a lockdep report",
        r"possible circular locking|possible recursive locking|inconsistent lock state"
        r"|possible irq lock inversion|INFO: possible|suspicious RCU usage|held lock freed|bad unlock balance"
        r"|lock held when returning to user space|turning off the locking correctness validator",
    ),
    ("a hung task", r"INFO: task .* blocked (?:for more than|in I/O wait)"),
    ("a soft lockup", r"soft lockup|hard LOCKUP|rcu: INFO: .*stall|rcu.*self-detected stall"),
    ("a DMA-API report", r"DMA-API: (?!.*preallocated|.*dma_debug_|.*debugging enabled)"),
    ("an ODEBUG report", r"ODEBUG: "),
    ("a refcount report", r"refcount_t: "),
    ("a scheduling error", r"scheduling while atomic|sleeping function called from invalid context"),
    ("a Rust panic", r"rust_kernel: panicked at|panicked at "),
    ("a panic", r"Kernel panic - not syncing"),
)

_COMPILED = [(what, re.compile(pattern)) for what, pattern in SPLATS]
_TIMESTAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_LEAK = "unreferenced object"


@dataclass(frozen=True)
class Finding:
    """One line that must not be there."""

    what: str
    line: str
    number: int


def scan(text: str, allow: list[str]) -> Finding | None:
    """The first line of console TEXT that is a splat and matches no regular expression of ALLOW."""
    allowed = [re.compile(pattern) for pattern in allow]
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.rstrip("\r")
        for what, pattern in _COMPILED:
            if pattern.search(line) and not any(one.search(line) for one in allowed):
                return Finding(what, _TIMESTAMP.sub("", line).strip(), number)
    return None


def stale_breakpoint(text: str) -> bool:
    """Whether the kernel on console TEXT died of QEMU, before it had a module: by a breakpoint that was gone.

    The kernel patches its code behind a breakpoint, and tells all processors when it has taken that away.  A thread of
    QEMU 10.0 (`-accel tcg`) can still run what it had translated before.
    """
    first = scan(text, [])
    if first is None or not first.line.startswith("Oops: int3: "):
        return False
    return re.search(r"Not tainted", text) is not None and re.search(r"Modules linked in:\s*$", text, re.M) is not None


def never_began(text: str) -> bool:
    """Whether the kernel on console TEXT waited for ever before its first program, when it has no module of virtio.

    Seen with four processors and TCG: all of them idle, and what the kernel does in the background waits as well.
    """
    first = scan(text, [])
    return first is not None and first.line.startswith("INFO: task swapper/0:1 blocked") and "virtio" not in text


def died_of_qemu(text: str, stderr: str) -> bool:
    """Whether QEMU's STDERR shows that it failed by itself, and not over what the guest of console TEXT did.

    QEMU 10.0 with a thread for each processor can look for memory in a map that has just been replaced
    (``iotlb_to_section``), while firmware or kernel moves a device's registers or lets it be master of its bus.  That
    fails in QEMU's own tables, whatever a driver does.  Of other assertions it may be that a driver brought them
    about: they are QEMU's alone as long as the console names no virtio module or device.
    """
    failed = re.search(r"(\w+): Assertion `.*' failed", stderr)
    return failed is not None and (failed.group(1) == "iotlb_to_section" or "virtio" not in text)


def leaks(text: str, modules: set[str]) -> Finding | None:
    """The first kmemleak record of console TEXT whose backtrace names one of MODULES."""
    lines = [_TIMESTAMP.sub("", line.rstrip("\r")) for line in text.splitlines()]
    for number, line in enumerate(lines):
        if not line.startswith(_LEAK):
            continue
        for follow in lines[number + 1 :]:
            if follow.startswith(_LEAK):
                break
            named = re.search(r"\[(\w+)\]\s*$", follow)
            if named and named.group(1) in modules:
                return Finding(f"a memory leak of {named.group(1)}", line, number + 1)
    return None


def device_error(text: str, allow: list[str]) -> Finding | None:
    """The first line of QEMU's stderr with which a virtio device complains, unless ALLOW has it."""
    for number, line in enumerate(text.splitlines(), 1):
        if "virtio" in line and not any(re.search(pattern, line) for pattern in allow):
            return Finding("an error of a virtio device", line.strip(), number)
    return None


def read(path: Path) -> str:
    """The text of a log that may not exist, with undecodable bytes replaced."""
    return path.read_text(errors="replace") if path.exists() else ""
