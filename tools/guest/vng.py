# SPDX-License-Identifier: GPL-2.0
"""Guests of virtme-ng: root file system, input, output and exit status all go through virtio.

So this is no test bench but a test: it works only if the C drivers for 9p and console do on the
core and transport under test.  virtme-ng takes kernel and modules from the root directory, which is
therefore laid out for each run, one run at a time.
"""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from guest import accel, devices, kernel, modules, paths, pytools, root, run
from guest.errors import EXIT_SICK, EXIT_TIMEOUT, UserError
from guest.run import Config, Result

# virtme-ng brings its own serial devices.
DEFAULT = tuple(name for name in devices.DEFAULT if name != "serial")
MINIMUM_SECONDS = 0.2


def _lay_out(config: Config, kdir: Path, tree: Path, work: Path) -> tuple[Path, modules.Selection]:
    """Put kernel, modules and command into TREE; returns the kernel image there."""
    ours = config.modules or paths.module_dir(config.kernel)
    modules.check_kernel(ours, kdir)
    selection = modules.find(kdir, ours)
    modules.choose(selection, config.stack, config.swaps)
    staged = modules.stage(selection, kdir, work / "modules")
    target = tree / "usr/lib/modules" / modules.kernel_release(kdir)
    for old in (tree / "usr/lib/modules").iterdir():
        shutil.rmtree(old)
    # Copies: a link into the host's tree points nowhere in the guest.
    shutil.copytree(staged, target, symlinks=False)
    shutil.copytree(work / "modules/etc/modprobe.d", tree / "etc/modprobe.d", dirs_exist_ok=True)
    shutil.copyfile(modules.kernel_image(kdir), target / "vmlinuz")
    (tree / "guest").mkdir(exist_ok=True)
    (tree / "guest/command").write_text(config.command + "\n")
    for name, source in config.files.items():
        shutil.rmtree(tree / name, ignore_errors=True)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source, tree / name)
    return target / "vmlinuz", selection


def _command(config: Config, image: Path, tree: Path, work: Path, console: Path) -> list[str]:
    """Command line of vng."""
    built = devices.Builder(work)
    for spec in (*(DEFAULT if config.default_devices else ()), *config.devices):
        built.add(spec)
    # In script mode vng sends the serial console to /dev/null.
    serial = [] if config.terminal else ["-set", f"chardev.console.path={console.resolve()}"]
    qemu = shlex.join([*built.args, *serial, *config.qemu_args])
    memory = config.memory if config.memory[-1].isalpha() else f"{config.memory}M"
    arguments = ["ignore_loglevel", *run.BUSY_HOST, *config.append]
    command = ["vng", "--run", str(image), "--root", str(tree), "--force-9p", "--user", "root", "--cwd", str(tree)]
    command += ["--memory", memory, "--cpus", config.smp, f"--qemu-opts={qemu}"]
    if accel.choose(config.accel, config.qemu, image) is accel.TCG:
        command.append("--disable-kvm")
    for argument in arguments:
        command += ["--append", argument]
    return [*command, *(() if config.terminal else ("--", "sh /guest/command"))]


def start(config: Config) -> Result:
    """Carry out CONFIG under virtme-ng."""
    if config.share is not None:
        raise UserError("--share does not go with --root vng.")
    kdir = config.kdir.resolve() if config.kdir else kernel.cached(config.kernel)
    tree = root.tree()
    tools = pytools.directory("vng")
    log = config.log or run.new_log_directory()
    log.mkdir(parents=True, exist_ok=True)
    console, stderr = log / "console.log", log / "qemu.stderr"
    console.write_bytes(b"")
    with (root.directory() / "vng.lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="guest-") as temporary:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work = Path(temporary)
        image, selection = _lay_out(config, kdir, tree, work)
        run.say(f"stack: {selection.line()}")
        run.say(f"console {paths.shown(console)}, QEMU's stderr {paths.shown(stderr)}")
        command = _command(config, image, tree, work, console)
        # Killed in the middle, vng leaves files in TMPDIR.
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": temporary}
        if config.terminal:
            status: int | None = subprocess.run(command, env=environment, check=False).returncode
        else:
            status = _piped(command, environment, stderr, config.timeout)
    reason = run.judge(selection, console, stderr, config.allow)
    if reason is not None:
        return Result(EXIT_SICK, reason, console, stderr)
    if status is None:
        return Result(EXIT_TIMEOUT, f"no end within {config.timeout:g} seconds.", console, stderr)
    return Result(status, None, console, stderr)


def _piped(command: list[str], environment: dict[str, str], stderr: Path, timeout: float) -> int | None:
    """Run COMMAND, its output passed on to ours; exit status, or None after TIMEOUT seconds."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    # QEMU opens /proc/self/fd/N anew: with a file there it would write at offset 0 and truncate it.
    with stderr.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(
                timeout=max(deadline - time.monotonic(), MINIMUM_SECONDS) if timeout else None
            )
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            run.write_stdout(out)
            errors.write(err)
            return None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        run.write_stdout(out)
        errors.write(err)
        sys.stderr.buffer.write(err)
        return process.returncode
