# SPDX-License-Identifier: GPL-2.0
"""A guest run from configuration to verdict.  The command line and the host-side tests both use it."""

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from guest import accel, console, devices, initramfs, kernel, modules, paths, root
from guest.errors import EXIT_SICK, EXIT_TIMEOUT, UserError
from guest.machine import Machine, Qmp, Trailer

KEEP_LOGS = 60
POWEROFF_SECONDS = 60.0
SHARE_SLACK = 64 << 20


# What a kernel needs to boot on a busy host.  The timer check counts ticks against a delay loop; it fails, and panics.
# The clocksource watchdog of 7.3 waits for another processor with interrupts off and measures that with jiffies, until
# there is a better clock: if the other one waits in stop_machine() to switch to it, neither ever goes on.
BUSY_HOST = ("no_timer_check", "tsc=nowatchdog")


@dataclass(frozen=True)
class MachineType:
    """QEMU's arguments for a kind of machine, and how devices are attached to it.

    The command channel is the second serial port.  A microvm has one; the other is given its usual place.  Its ACPI
    leaves TCG without a timer, so it is switched off: devices are found by the kernel's command line, there is one
    processor, and the end is a reboot, which QEMU takes as one.
    """

    options: str
    transport: str
    command_port: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    end: str = "poweroff"


MACHINES = {
    "q35": MachineType("q35", "pci", ("-serial", "chardev:command")),
    "microvm": MachineType(
        "microvm,acpi=off,isa-serial=on,rtc=on",
        "device",
        ("-device", "isa-serial,iobase=0x2f8,irq=3,chardev=command"),
        ("reboot=t",),
        "reboot",
    ),
}


# What the disk of --root is: one that no module under test is needed for, and one that they drive.
ROOT_DEVICES = {"full": "nvme", "vda": "virtio-blk-pci"}


@dataclass
class Config:
    """What `guest run` can be asked for; the defaults are its defaults."""

    command: str = ""
    stack: str = "rust"
    swaps: dict[str, str] = field(default_factory=dict)
    kernel: str = "release"
    kdir: Path | None = None
    modules: Path | None = None
    more_modules: list[str] = field(default_factory=list)
    root: str = "initramfs"
    machine: str = "q35"
    smp: str = "2"
    memory: str = "512"
    devices: list[str] = field(default_factory=list)
    default_devices: bool = True
    load: bool = True
    qemu_args: list[str] = field(default_factory=list)
    qemu: str = "qemu-system-x86_64"
    accel: str = "auto"
    share: Path | None = None
    append: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    timeout: float = 300.0
    stdin: bool = False
    terminal: bool = False
    kunit: bool = False
    kmemleak: bool = True
    allow: list[str] = field(default_factory=list)
    end: str | None = None
    # By which the end of the command is known; of a guest that goes on from another one's image: that one's.
    nonce: str = ""
    qmp: Path | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Result:
    """The verdict: STATUS is the exit status of the run, REASON a sentence if the guest itself failed."""

    status: int
    reason: str | None
    console: Path
    stderr: Path


def new_log_directory() -> Path:
    """A fresh directory below build/log/guest; the oldest ones go."""
    base = paths.LOGS / "guest"
    base.mkdir(parents=True, exist_ok=True)
    old = sorted((entry for entry in base.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    for entry in old[: max(0, len(old) - KEEP_LOGS)]:
        shutil.rmtree(entry, ignore_errors=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path(tempfile.mkdtemp(prefix=f"{stamp}-", dir=base))


def kernel_options(kdir: Path) -> set[str]:
    """Options that are set to y in the configuration of KDIR."""
    config = kdir / ".config"
    text = config.read_text() if config.is_file() else ""
    return set(re.findall(r"^(CONFIG_\w+)=y$", text, re.MULTILINE))


class Guest:
    """A guest that runs CONFIG.command: start(), talk, finish().  Use it in a `with` block."""

    def __init__(self, config: Config, sink: Callable[[bytes], None] | None = None) -> None:
        self.config = config
        self.output = bytearray()
        self._sink = sink
        self._stack = contextlib.ExitStack()
        self._seen = 0
        self._qmp: Qmp | None = None
        self._machine: Machine | None = None
        self._deadline = float("inf")

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def machine(self) -> Machine:
        """The running QEMU."""
        if self._machine is None:
            raise RuntimeError("the guest has not been started")
        return self._machine

    def _receive(self, data: bytes) -> None:
        self.output += data
        if self._sink is not None:
            self._sink(data)

    def _start(self) -> None:
        config = self.config
        self.kdir = config.kdir.resolve() if config.kdir else kernel.cached(config.kernel)
        ours = config.modules or paths.module_dir(config.kernel)
        modules.check_kernel(ours, self.kdir)
        self.selection = modules.find(self.kdir, ours)
        modules.choose(self.selection, config.stack, config.swaps)
        image = modules.kernel_image(self.kdir)
        work = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="guest-")))
        self.work = work
        log = config.log or new_log_directory()
        log.mkdir(parents=True, exist_ok=True)
        self.console, self.stderr = log / "console.log", log / "qemu.stderr"
        for file in (self.console, self.stderr):
            file.write_bytes(b"")

        machine = MACHINES[config.machine]
        built = devices.Builder(work, machine.transport)
        if config.root != "initramfs":
            if machine.transport != "pci":
                raise UserError(f"--root {config.root} needs PCI for its disk: not with --machine {config.machine}.")
            # Before all others, so that it is the first disk of its kind.
            built.args += root.disk(root.cached(), ROOT_DEVICES[config.root])
        for spec in (*(devices.DEFAULT if config.default_devices else ()), *config.devices):
            built.add(spec)
        if config.share is not None:
            built.args += self._share(config.share, work)

        nonce = config.nonce or secrets.token_hex(16)
        staged = work / "modules"
        base = modules.stage(self.selection, self.kdir, staged)
        if config.root == "initramfs":
            modules.prune(base, self.selection, config.more_modules)
        initrd = work / "initrd"
        files = {"guest/demo": initramfs.HERE / "demo", **config.files}
        env = self._environment(nonce)
        initramfs.pack(initrd, command=config.command, env=env, modules=staged, extra=files)
        shutil.rmtree(staged)

        qmp = config.qmp or work / "qmp"
        self._args = [
            config.qemu,
            *accel.choose(config.accel, config.qemu, image),
            *("-M", machine.options, "-smp", config.smp, "-m", config.memory),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(image), "-initrd", str(initrd), "-append", " ".join(self._kernel_arguments())),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-qmp", f"unix:{qmp},server=on,wait=off"),
            *built.args,
            *config.qemu_args,
        ]
        if config.timeout:
            self._deadline = time.monotonic() + config.timeout
        self._trailer = Trailer(nonce)
        self._boot()
        if config.qmp is not None:
            self._stack.callback(config.qmp.unlink, missing_ok=True)

    def _boot(self, *more: str) -> None:
        """Start QEMU, with MORE arguments."""
        port = MACHINES[self.config.machine].command_port
        self._machine = Machine([*self._args, *more], port, self.stderr, self._trailer, self._receive)
        self._stack.callback(self._machine.kill)

    def move(self, state: Path, seconds: float) -> dict[str, Any]:
        """Put the guest into the file STATE, in SECONDS at most, and have another QEMU go on with it.

        What QEMU says of the migration.
        """
        monitor = self.qmp()
        monitor.command("migrate", uri=f"file:{state}")
        deadline = time.monotonic() + seconds
        while (answer := monitor.command("query-migrate"))["status"] != "completed":
            if answer["status"] in ("failed", "cancelled") or time.monotonic() > deadline:
                raise AssertionError(f"the guest does not move: {answer}")
            time.sleep(0.1)
        monitor.close()
        self._qmp = None
        self.machine.kill()
        (self.config.qmp or self.work / "qmp").unlink(missing_ok=True)
        self._boot("-incoming", f"file:{state}")
        # Before it runs, what it is sent is lost.
        while self.qmp().command("query-status")["status"] != "running":
            if time.monotonic() > deadline:
                raise AssertionError("the guest does not go on")
            time.sleep(0.1)
        return dict(answer)

    def _share(self, directory: Path, work: Path) -> list[str]:
        """A disk with a copy of DIRECTORY; what the guest changes there is copied back by finish()."""
        if not directory.is_dir():
            raise UserError(f"--share {directory}: there is no such directory.")
        size = sum(entry.stat().st_size for entry in directory.rglob("*") if entry.is_file())
        image = work / "share.img"
        blocks = (size + size // 4 + SHARE_SLACK) // 4096
        command = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(directory), str(image), str(blocks)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(f"--share {directory}: mke2fs failed: {done.stderr.strip()}")
        return [
            *("-drive", f"if=none,id=guest-share,format=raw,file={image}"),
            *("-device", "nvme,drive=guest-share,serial=guest-share"),
        ]

    def _unshare(self, directory: Path) -> None:
        image = self.work / "share.img"
        fetched = self.work / "share"
        fetched.mkdir()
        command = ["debugfs", "-R", f"rdump / {fetched}", str(image)]
        subprocess.run(command, capture_output=True, check=True)
        shutil.rmtree(fetched / "lost+found", ignore_errors=True)
        shutil.copytree(fetched, directory, dirs_exist_ok=True, symlinks=True)

    def _environment(self, nonce: str) -> dict[str, str]:
        config = self.config
        size = shutil.get_terminal_size()
        options = kernel_options(self.kdir)

        def flag(value: object) -> str:
            return "1" if value else ""

        return {
            "GUEST_TRAILER": nonce,
            "GUEST_ROOT": config.root,
            "GUEST_LOAD": flag(config.load),
            "GUEST_SHARE": flag(config.share),
            "GUEST_STDIN": flag(config.stdin),
            "GUEST_INTERACTIVE": flag(config.terminal),
            "GUEST_ROWS": str(size.lines),
            "GUEST_COLS": str(size.columns),
            "GUEST_KMEMLEAK": flag(config.kmemleak and "CONFIG_DEBUG_KMEMLEAK" in options),
            "GUEST_EXTRA": " ".join(config.files),
            "GUEST_END": config.end or MACHINES[config.machine].end,
        }

    def _kernel_arguments(self) -> list[str]:
        arguments = ["console=ttyS0", "loglevel=5", "panic=-1", *BUSY_HOST]
        if self.config.kunit:
            arguments += ["kunit.enable=1", "kunit.autorun=1", "kunit.filter_glob=virtio*"]
        if not self.config.kmemleak:
            # Each allocation would save a stack that nobody looks at.
            arguments.append("kmemleak=off")
        return [*arguments, *MACHINES[self.config.machine].arguments, *self.config.append]

    def qmp(self) -> Qmp:
        """QEMU's monitor, for tests that unplug, suspend or look inside."""
        if self._qmp is None:
            path = self.config.qmp or self.work / "qmp"
            deadline = time.monotonic() + 10
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            self._qmp = Qmp(path)
            self._stack.callback(self._qmp.close)
        return self._qmp

    def send(self, line: str) -> None:
        """One line for the command's standard input (needs Config.stdin)."""
        self.machine.send(line.encode() + b"\n")

    def lines(self) -> Iterator[str]:
        """Complete lines of the command's output, as they come, from where the last reader stopped."""
        while True:
            end = self.output.find(b"\n", self._seen)
            if end >= 0:
                line = self.output[self._seen : end].decode(errors="replace")
                self._seen = end + 1
                yield line
            elif self.machine.status is not None or not self._pump():
                return

    def expect(self, pattern: str) -> re.Match[str]:
        """Read output up to a line that matches PATTERN; AssertionError if the command ends or time runs out."""
        for line in self.lines():
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"the guest's output ended before a line that matches {pattern!r}")

    def _pump(self) -> bool:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            return False
        return self.machine.pump(min(remaining, 1.0))

    def finish(self) -> Result:
        """Wait for the command and the guest to end, and judge both."""
        machine = self.machine
        while machine.status is None and self._pump():
            pass
        status = machine.status
        late = status is None and time.monotonic() >= self._deadline
        off = False if late else machine.wait(POWEROFF_SECONDS)
        machine.kill()
        reason = judge(self.selection, self.console, self.stderr, self.config.allow)
        if reason is None and status is not None and not off:
            reason = f"the command ended with status {status}, but the guest did not power off."
        if reason is not None:
            return self._result(EXIT_SICK, reason)
        if late:
            return self._result(EXIT_TIMEOUT, f"no end within {self.config.timeout:g} seconds.")
        if status is None:
            words = f"QEMU ended before the command did, with status {machine.process.returncode}."
            return self._result(EXIT_SICK, words + self._last_words())
        if self.config.share is not None:
            self._unshare(self.config.share)
        return self._result(status, None)

    def _result(self, status: int, reason: str | None) -> Result:
        return Result(status, reason, self.console, self.stderr)

    def _last_words(self) -> str:
        lines = [*console.read(self.stderr).split("\n"), *console.read(self.console).split("\n")]
        words = [line.strip() for line in lines if line.strip()]
        return f" Its last words: {words[-1]}" if words else ""


def judge(selection: modules.Selection, log: Path, stderr: Path, allow: list[str]) -> str | None:
    """A sentence if the console LOG or QEMU's STDERR shows what it must not; ALLOW excuses lines."""
    text = console.read(log)
    names = {modules.module_name(path) for path in selection.rust.values()} | set(selection.choice)
    found = console.scan(text, allow) or console.leaks(text, names)
    if found:
        return f"the console shows {found.what} in line {found.number}: {found.line}"
    found = console.device_error(console.read(stderr), allow)
    if found:
        return f"QEMU's stderr shows {found.what}: {found.line}"
    return None


def say(text: str) -> None:
    """A line of the runner itself, on stderr, so that stdout is the command's alone."""
    print(f"guest: {text}", file=sys.stderr, flush=True)


def write_stdout(data: bytes) -> None:
    """The command's output, unchanged and unbuffered."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
