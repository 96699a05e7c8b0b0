#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The kernel's own selftests of network drivers, on the C stack and on ours: what passes there passes here.

Each runs in two guests with two devices of several queues on one wire, of which the second is in a name space of its
own.  What came of each case on either stack is in the output.

The programs that steer packets have devices of their own.  With C's driver those lose packets: QEMU waits for a
notification of a queue that has no buffer yet.

# guest *: --kernel release --root full --timeout 900 --memory 1024
# long kselftest:
# long steering: --qemu "-global virtio-net-pci.rss=on -global virtio-net-pci.hash=on"
"""

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from guest import kselftest, ksft, taps
from guest.ksft import Shell
from guest.run import Config, Guest

PATIENCE = 60
# Of each device.
PAIRS = 4
SELFTESTS = Path("/share") / kselftest.NET
# Those of which the C driver passes something on these devices.  Of the others, all are skipped, or fail, with C too:
# they want kernels with BTF, a newer ethtool, filters, or counts of segments.
PROGRAMS = ("ping.py", "stats.py", "queues.py", "ring_reconfig.py", "napi_id.py", "hw/csum.py")
STEERING = ("hw/rss_api.py", "hw/rss_drv.py", "hw/rss_ctx.py")
# Those that make what they need of both devices themselves.
FLAT = ("virtio_net/basic_features.sh",)
ENVIRONMENT = {
    "NETIF": "eth0",
    "LOCAL_V4": "192.0.2.1",
    "REMOTE_V4": "192.0.2.2",
    "LOCAL_V6": "2001:db8::1",
    "REMOTE_V6": "2001:db8::2",
    "REMOTE_TYPE": "netns",
    "REMOTE_ARGS": "peer",
}
RELOAD = "modprobe -r virtio_net && modprobe virtio_net"


@dataclass
class World:
    """A shell in a guest of each stack."""

    shells: dict[str, Shell]

    def compare(self, program: str) -> None:
        """Run PROGRAM, and say what came of its cases; AssertionError if one passed with C and not with Rust.

        One has to pass with C: else nothing was compared.
        """
        printed = {name: run(shell, program) for name, shell in self.shells.items()}
        results = {name: parse(text) for name, text in printed.items()}
        assert "pass" in results["c"].values(), f"none passes with C: {printed['c'][-400:]!r}"
        worse = []
        for case in dict.fromkeys((*results["c"], *results["rust"])):
            c, rust = (results[stack].get(case, "missing") for stack in ("c", "rust"))
            print(f"# {case}: C {c}, Rust {rust}", flush=True)
            if c == "pass" and rust != "pass":
                worse.append(case)
        if worse:
            print("".join(f"# | {line}\n" for line in printed["rust"].splitlines()), flush=True)
        assert not worse, f"with C they pass: {', '.join(worse)}"


def run(shell: Shell, program: str) -> str:
    """What PROGRAM prints, whatever its status."""
    path = SELFTESTS / program
    shell.start(f"cd {path.parent} && timeout 300 ./{path.name} 2>&1; cd /")
    printed, _ = shell.result()
    # Colours.
    return re.sub(r"\x1b\[[0-9;]*m", "", printed)


def parse(printed: str) -> dict[str, str]:
    """The results of a program, by case; of one that says nothing, what it says last."""
    found = {}
    # What the forwarding library prints.
    for name, verdict in re.findall(r"^TEST: (.*?) +\[ *(\w+) *\]$", printed, re.M):
        found[name] = {"OK": "pass"}.get(verdict, verdict.lower())
    for verdict, name, rest in re.findall(r"^(ok|not ok) \d+ (\S+)(.*)$", printed, re.M):
        directive = re.search(r"# (SKIP|XFAIL)", rest)
        found[name] = directive.group(1).lower() if directive else "pass" if verdict == "ok" else "fail"
    return found or {"the program": f"fail: {printed[-200:]!r}"}


def topology() -> str:
    """The second device in a name space, and addresses on both."""
    env = ENVIRONMENT
    return "; ".join(
        (
            "ip netns add peer",
            "ip link set eth1 netns peer",
            f"ip addr add {env['LOCAL_V4']}/24 dev eth0",
            f"ip -6 addr add {env['LOCAL_V6']}/64 dev eth0 nodad",
            "ip link set eth0 up",
            f"ip -n peer addr add {env['REMOTE_V4']}/24 dev eth1",
            f"ip -n peer -6 addr add {env['REMOTE_V6']}/64 dev eth1 nodad",
            "ip -n peer link set eth1 up",
            "ip -n peer link set lo up",
        )
    )


@contextlib.contextmanager
def guest(config: Config, name: str, tree: Path, wire: taps.Wire) -> Iterator[Shell]:
    """One guest with the kernel's TREE, two devices on WIRE; afterwards its console shows nothing bad."""
    config = replace(config, stack=name, default_devices=False, share=tree)
    config.swaps = {"virtio_net": name}
    config.log = config.log / name if config.log else None
    config.append = [*config.append, "net.ifnames=0"]
    config.qemu_args = [*config.qemu_args]
    for number, tap in enumerate(wire.names):
        netdev = f"tap,id=n{number},ifname={tap},script=no,downscript=no,queues={PAIRS}"
        device = f"virtio-net-pci,netdev=n{number},mac=52:54:00:12:34:0{number},mq=on,vectors={2 * PAIRS + 2}"
        config.qemu_args += ["-netdev", netdev, "-device", device]
    Shell.prepare(config)
    with Guest(config) as one:
        shell = Shell(one)
        # By now QEMU has them; before, it would make others.
        wire.join()
        shell.wait("[ -e /sys/class/net/eth1 ]", PATIENCE)
        expected = "O" if name == "rust" else ""
        assert shell("cat /sys/module/virtio_net/taint") == expected, f"the driver is not that of {name}"
        shell("[ -d /sys/kernel/debug/virtio ] || mount -t debugfs none /sys/kernel/debug")
        # For programs of control groups, by which `ip vrf exec` works.
        shell("mount -t cgroup2 none /sys/fs/cgroup")
        shell("mount -t configfs none /sys/kernel/config; modprobe netconsole")
        yield shell
        shell.start("exit")
        ksft.passed(one)


@contextlib.contextmanager
def healthy_guests(config: Config) -> Iterator[World]:
    """A guest of each stack, with the part of the kernel's tree that the programs need."""
    with contextlib.ExitStack() as stack:
        tree = stack.enter_context(ksft.scratch()) / "tree"
        shutil.copytree(kselftest.network(), tree)
        config_file = "".join(f"{key}={value}\n" for key, value in ENVIRONMENT.items())
        for directory in ("", "hw"):
            (tree / kselftest.NET / directory / "net.config").write_text(config_file)
        shells = {}
        for name in ("c", "rust"):
            wire = stack.enter_context(taps.wire(name[0] + "k", 2))
            shells[name] = stack.enter_context(guest(config, name, tree, wire))
        yield World(shells)


def case(program: str) -> Callable[[World], None]:
    """The case of one program."""

    def passes_what_c_passes(world: World) -> None:
        flat = program in FLAT
        for shell in world.shells.values():
            if not flat:
                shell(topology())
        world.compare(program)
        for shell in world.shells.values():
            shell(RELOAD if flat else f"ip netns del peer; {RELOAD}")
            shell.wait("[ -e /sys/class/net/eth1 ]", PATIENCE)

    passes_what_c_passes.__name__ = program
    return passes_what_c_passes


if __name__ == "__main__":
    steers = any("rss=on" in argument for argument in sys.argv)
    ksft.run_in_one(healthy_guests, *(case(program) for program in (STEERING if steers else (*PROGRAMS, *FLAT))))
