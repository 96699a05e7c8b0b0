#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The network driver in Rust when its device fails under traffic: nothing is sent any more, DEVICE_NEEDS_RESET.

Suspends, resets and unplugging are in pm.py and hotplug.py, lies of the device in the hostile suite.

# guest *: --root full --no-default-devices --append net.ifnames=0 --timeout 600
# guest split: --kernel release
# long packed: --kernel release --append packed=on
# long debug-split: --kernel debug --memory 1024
# long debug-packed: --kernel debug --memory 1024 --append packed=on
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from guest import ksft, shared_ram
from guest.ksft import Shell
from guest.run import Config, Guest

# Seconds until something has happened: the debug kernel under TCG, on a busy host.
PATIENCE = 120
STATISTICS = "/sys/class/net/eth0/statistics"
RECOVERED = "dmesg | grep -q 'virtio_net.*recovered'"


def is_packed(config: Config) -> bool:
    """Whether the header asks for a packed ring, in the kernel's command line."""
    return "packed=on" in config.append


@contextlib.contextmanager
def healthy_guest(config: Config, backend: str) -> Iterator[tuple[Guest, Shell]]:
    """A guest with one network device at BACKEND, and a shell in it; afterwards its console shows nothing bad."""
    packed = "on" if is_packed(config) else "off"
    config.qemu_args += [
        "-netdev",
        f"{backend},id=net",
        "-device",
        f"virtio-net-pci,id=net0,netdev=net,packed={packed}",
    ]
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
        assert shell("cat /sys/module/virtio_net/taint") == "O", "the driver is not Rust"
        yield guest, shell
        shell.start("exit")
        ksft.passed(guest)


def transmit_timeout_recovers(config: Config) -> None:
    """Nobody takes packets, until the queue is full for too long: the device is reset, and sends when somebody does."""
    with healthy_guest(config, "hubport,hubid=1") as (guest, shell):
        shell("ip link set eth0 up && ip addr add 10.9.0.1/24 dev eth0")
        # A socket has room for less than half of the queue, and ping asks for room for a few packets unless told.
        shell("for _ in 1 2 3 4 5 6; do ping -q -f -S 200000 -s 1400 -I eth0 224.0.0.1 >/dev/null 2>&1 & done")
        shell.wait("dmesg | grep -q 'TX timeout on queue 0'", PATIENCE)
        # From here on there is somebody.
        guest.qmp().command("netdev_add", type="hubport", id="other", hubid=1)
        shell.wait(RECOVERED, PATIENCE)
        assert int(shell(f"cat {STATISTICS}/tx_errors")) >= 1, "the timeout was not counted"
        before = int(shell(f"cat {STATISTICS}/tx_packets"))
        shell.wait(f"[ $(cat {STATISTICS}/tx_packets) -ge {before + 1000} ]", PATIENCE)
        shell("pkill ping; wait")


def needs_reset_recovers(config: Config) -> None:
    """The device finds nonsense in the receive queue and asks for a reset; traffic goes on after it."""
    with ksft.scratch() as directory:
        ram = Path(directory) / "ram"
        shared_ram.share(config, ram)
        # QEMU says what the test makes it say.
        config.allow = [*config.allow, r"Guest says index|Invalid size for indirect"]
        with healthy_guest(config, "user") as (guest, shell):
            shell("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ping -q -c 2 -W 10 10.0.2.2")
            shell("while ! [ -e /tmp/end ]; do ping -q -c 50 -i 0.02 10.0.2.2; done >/dev/null 2>&1 &")
            deadline = time.monotonic() + PATIENCE
            # What the driver adds meanwhile is whole.
            while "device needs reset" not in shell("dmesg | grep 'device needs reset'; true"):
                assert time.monotonic() < deadline, "the device did not ask for a reset"
                shared_ram.corrupt_queue(guest, ram, is_packed(config))
                time.sleep(0.2)
            shell.wait(RECOVERED, PATIENCE)
            shell("touch /tmp/end; wait; ping -q -c 20 -i 0.02 -W 10 -s 1400 10.0.2.2")
            assert shell("cat /sys/bus/virtio/devices/virtio0/status") == "0x0000000f"


if __name__ == "__main__":
    ksft.run(transmit_timeout_recovers, needs_reset_recovers)
