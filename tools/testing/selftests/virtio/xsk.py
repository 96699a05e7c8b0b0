#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Zero-copy AF_XDP sockets on the C network driver: premapped buffers, and queues that are reset one by one.

# guest split: --kernel release --append iommu.strict=1 --swap virtio_net=c
# guest packed: --kernel release --append iommu.strict=1 --qemu "-global virtio-device.packed=on" --swap virtio_net=c
# long c: --kernel release --append iommu.strict=1 --stack c
# long debug: --kernel debug --append iommu.strict=1 --timeout 900 --swap virtio_net=c
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

SOURCE = Path(__file__).resolve().parent / "xsk.c"
ROUNDS = 3
# Seconds for one request and its answer.
PATIENCE = 60
TRACING = "/sys/kernel/tracing"
PING = "ping -q -c 2 -i 0.1 -W 10 10.0.2.2"


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[Shell]:
    """One guest; afterwards its console shows nothing bad."""
    with ksft.scratch() as directory:
        program = directory / "xsk"
        # Nothing in the guest's root has a compiler, or this one's C library.
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-static", "-o", program, SOURCE], check=True)
        config.files = {"xsk": program}
        config.default_devices = False
        # The driver takes such sockets only of a device whose addresses are mapped.
        config.qemu_args += ["-device", "intel-iommu"]
        config.append = [*config.append, "intel_iommu=on"]
        config.devices = ["net,iommu_platform=on,disable-legacy=on"]
        Shell.prepare(config)
        with Guest(config) as guest:
            shell = Shell(guest)
            shell("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0")
            yield shell
            shell.start("exit")
            ksft.passed(guest)


def frames_are_exchanged(shell: Shell) -> None:
    """A socket sends and receives, without copies; without it the driver works as before."""
    for _ in range(ROUNDS):
        shell(f"/xsk eth0 {PATIENCE} && {PING}")


def queues_are_reset(shell: Shell) -> None:
    """The receive and the transmit queue are reset when a socket is bound, and again when it is closed."""
    shell(f"mount -t tracefs none {TRACING}")
    # Functions of the C driver, since a probe cannot be on virtqueue_reset() in Rust; the second one gives the errors
    # of both queues, for the socket and for the program, each as it comes and goes.
    for probe, function in (("receive", "virtnet_rq_bind_xsk_pool"), ("request", "virtnet_xdp")):
        shell(f"echo 'r:{probe} {function} status=$retval' >>{TRACING}/kprobe_events")
    shell(f"echo 1 >{TRACING}/events/kprobes/enable && /xsk eth0 {PATIENCE}")
    # The socket is unbound in a work item.
    for probe, count in (("receive", 2), ("request", 4)):
        shell.wait(f"[ $(grep -c ' {probe}: .*status=0x0$' {TRACING}/trace) -eq {count} ]")
    shell(f"{PING} && ! grep 'status=0x[^0]' {TRACING}/trace")


if __name__ == "__main__":
    ksft.run_in_one(healthy_guest, frames_are_exchanged, queues_are_reset)
