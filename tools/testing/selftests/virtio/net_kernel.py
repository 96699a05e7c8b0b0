#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The kernel's own selftests of network drivers, on the C stack and on ours: what passes there passes here.

Each runs in two guests with two devices on one wire, of which the second is in a name space of its own.  What came
of each case on either stack is in the output.

# guest kselftest: --kernel release --root full --timeout 900 --memory 1024
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from guest import kernel, ksft
from guest.ksft import Shell
from guest.run import Config, Guest

PATIENCE = 60
# What the programs need of the kernel's tree, where it is there.
PARTS = (
    "tools/testing/selftests/net/lib",
    "tools/testing/selftests/lib",
    "tools/testing/selftests/kselftest",
    "tools/testing/selftests/drivers/net",
    "tools/net/ynl/pyynl",
    "Documentation/netlink/specs",
)
# Directories there of other drivers.
OTHERS = ("bonding", "dsa", "microchip", "mlxsw", "netconsole", "netdevsim", "ocelot", "team")
SELFTESTS = "/share/tools/testing/selftests/drivers/net"
# Those of which the C driver passes something on these devices and this kernel.  All others are skipped, or fail, with
# C too: they want BPF programs, filters, several queues, or options that the kernel does not have.
PROGRAMS = ("ping.py", "stats.py", "queues.py", "ring_reconfig.py", "hw/rss_api.py")
ENVIRONMENT = {
    "NETIF": "eth0",
    "LOCAL_V4": "192.0.2.1",
    "REMOTE_V4": "192.0.2.2",
    "LOCAL_V6": "2001:db8::1",
    "REMOTE_V6": "2001:db8::2",
    "REMOTE_TYPE": "netns",
    "REMOTE_ARGS": "peer",
}
TAKE_APART = "ip netns del peer; modprobe -r virtio_net && modprobe virtio_net"


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
    path = Path(SELFTESTS) / program
    shell.start(f"cd {path.parent} && timeout 300 ./{path.name} 2>&1; cd /")
    printed, _ = shell.result()
    # Colours.
    return re.sub(r"\x1b\[[0-9;]*m", "", printed)


def parse(printed: str) -> dict[str, str]:
    """The results of a program, by case; of one that says nothing, what it says last."""
    found = {}
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
def guest(config: Config, name: str, tree: Path) -> Iterator[Shell]:
    """One guest with the kernel's TREE; afterwards its console shows nothing bad."""
    config = replace(config, stack=name, default_devices=False, share=tree)
    config.swaps = {"virtio_net": name}
    config.log = config.log / name if config.log else None
    config.append = [*config.append, "net.ifnames=0"]
    config.qemu_args = [*config.qemu_args]
    for number in range(2):
        config.qemu_args += ["-netdev", f"hubport,hubid=1,id=n{number}"]
        config.qemu_args += ["-device", f"virtio-net-pci,netdev=n{number},mac=52:54:00:12:34:0{number}"]
    Shell.prepare(config)
    with Guest(config) as one:
        shell = Shell(one)
        shell.wait("[ -e /sys/class/net/eth1 ]", PATIENCE)
        expected = "O" if name == "rust" else ""
        assert shell("cat /sys/module/virtio_net/taint") == expected, f"the driver is not that of {name}"
        shell("[ -d /sys/kernel/debug/virtio ] || mount -t debugfs none /sys/kernel/debug")
        yield shell
        shell.start("exit")
        ksft.passed(one)


@contextlib.contextmanager
def healthy_guests(config: Config) -> Iterator[World]:
    """A guest of each stack, with the part of the kernel's tree that the programs need."""
    with contextlib.ExitStack() as stack:
        tree = stack.enter_context(ksft.scratch())
        source = kernel.fetch()
        for part in PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, tree / part, ignore=shutil.ignore_patterns(*OTHERS))
            elif (source / part).exists():
                (tree / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / part, tree / part)
        config_file = "".join(f"{key}={value}\n" for key, value in ENVIRONMENT.items())
        for directory in ("", "hw/"):
            (tree / SELFTESTS.removeprefix("/share/") / directory / "net.config").write_text(config_file)
        yield World({name: stack.enter_context(guest(config, name, tree)) for name in ("c", "rust")})


def case(program: str) -> Callable[[World], None]:
    """The case of one program."""

    def passes_what_c_passes(world: World) -> None:
        for shell in world.shells.values():
            shell(topology())
        world.compare(program)
        for shell in world.shells.values():
            shell(TAKE_APART)
            shell.wait("[ -e /sys/class/net/eth1 ]", PATIENCE)

    passes_what_c_passes.__name__ = program
    return passes_what_c_passes


if __name__ == "__main__":
    ksft.run_in_one(healthy_guests, *(case(program) for program in PROGRAMS))
