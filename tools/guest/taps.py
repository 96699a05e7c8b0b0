# SPDX-License-Identifier: GPL-2.0
"""Tap devices of several queues on the host, joined by a bridge in a name space of its own."""

import contextlib
import os
import subprocess
from collections.abc import Iterator


def command(*words: str) -> None:
    """Run WORDS; an error that says what they printed if they fail."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


class Wire:
    """Tap devices, which QEMU opens by their names, and then one wire."""

    def __init__(self, prefix: str, count: int) -> None:
        self.space = f"{prefix}{os.getpid()}"
        self.names = [f"{self.space}.{number}" for number in range(count)]

    def join(self) -> None:
        """Make one wire of the devices, away from all others of the host, once QEMU has opened them."""
        inside = ("ip", "-n", self.space, "link")
        # A bridge that snoops forgets who listens when nobody asks.
        command(*inside, "add", "wire", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
        command(*inside, "set", "wire", "up")
        for name in self.names:
            command("ip", "link", "set", name, "netns", self.space)
            command(*inside, "set", name, "master", "wire", "up")


@contextlib.contextmanager
def wire(prefix: str, count: int) -> Iterator[Wire]:
    """COUNT tap devices whose names begin with PREFIX; OSError where they cannot be made: that takes root."""
    made = Wire(prefix, count)
    try:
        command("ip", "netns", "add", made.space)
        for name in made.names:
            command("ip", "tuntap", "add", "dev", name, "mode", "tap", "multi_queue", "vnet_hdr")
        yield made
    finally:
        for words in (["ip", "netns", "del", made.space], *(["ip", "link", "del", name] for name in made.names)):
            # They go with their name space, once they are there.
            subprocess.run(words, capture_output=True, check=False)
