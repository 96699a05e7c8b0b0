# SPDX-License-Identifier: GPL-2.0
"""The command line of `tools/guest/guest`."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from guest import build, initramfs, kernel, paths, root, vng
from guest.devices import DEMONSTRATED
from guest.errors import EXIT_INTERRUPTED, UserError
from guest.run import Config, Guest, Result, say, write_stdout
from guest.step import StepFailed
from guest.terminal import join

EPILOG = """\
COMMAND is one word: a script for the guest's shell; several words: a program and its arguments.
Without COMMAND: a shell on a terminal, else a short demonstration.

SPEC is NAME[,KEY=VALUE]... with NAME one of rng, blk, net, balloon, serial, scsi, 9p, keyboard, or
any QEMU device. Keys of the backend: rng file=; blk and scsi file=, size=; blk driver=null-co, or
label= (an empty ext4 of that name); net netdev=; 9p path=. All others are properties of the device,
e.g. `--device rng,file=/path,packed=on`.

The exit status is COMMAND's; 124 after the timeout, 125 if the guest itself failed (then stderr
has a sentence), 130 after Ctrl-C, 2 for a request that cannot be carried out.
"""


# Verbs that build: summary, and what carries them out for one kernel flavour.
VERBS: dict[str, tuple[str, Callable[[str], object]]] = {
    "kernel": ("build both guest kernels", lambda _: [kernel.build(flavour) for flavour in paths.FLAVOURS]),
    "guest-root": ("make the guest root", lambda _: root.build()),
    "modules": ("build our modules", build.build),
    "clippy": ("our modules under clippy, warnings being errors", build.clippy),
    "rustfmt": ("format the Rust files", lambda _: build.rustfmt(check=False)),
    "rustfmtcheck": ("say which Rust files are not formatted", lambda _: build.rustfmt(check=True)),
    "rustdoc": ("documentation of our crates", build.rustdoc),
    "rust-analyzer": ("rust-project.json for editors", build.rust_analyzer),
    "modules_install": ("install our modules into updates/", build.install),
    "uninstall": ("remove them again", build.uninstall),
}


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(prog="guest", description="Build what a guest needs, and start one.")
    verbs = top.add_subparsers(dest="verb", required=True)
    for name, (summary, _) in VERBS.items():
        verb = verbs.add_parser(name, help=summary)
        verb.add_argument("--kernel", choices=paths.FLAVOURS, default="release", help="which guest kernel")
    run = verbs.add_parser(
        "run",
        help="start a guest on the Rust or the C virtio stack",
        usage="guest run [OPTION]... [-- COMMAND...]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = run.add_argument
    add("--stack", choices=("rust", "c"), default="rust", help="whose modules to load (default: rust)")
    add("--swap", action="append", default=[], metavar="MODULE=c|rust", help="exchange a single module")
    add("--kernel", choices=paths.FLAVOURS, default="release", help="which guest kernel (default: release)")
    add("--kdir", type=Path, metavar="DIR", help="another built kernel instead of the cached one")
    add("--modules", type=Path, metavar="DIR", help="our built modules (default: build/KERNEL)")
    add("--module", action="append", default=[], metavar="NAME", help="a module of the kernel to pack besides virtio's")
    add(
        "--root",
        choices=("initramfs", "full", "vda", "vng"),
        default="initramfs",
        help="the guest's files; vda: those of full, on a disk that the modules under test drive",
    )
    add("--machine", choices=("q35", "microvm"), default="q35", help="microvm: virtio-mmio instead of PCI")
    add("--smp", default="2", metavar="N", help="processors (default: 2)")
    add("--memory", default="512", metavar="M", help="memory in MiB, or with QEMU's suffixes (default: 512)")
    add("--device", action="append", default=[], metavar="SPEC", help="add a device")
    add("--no-default-devices", action="store_true", help="only the devices given with --device")
    add("--no-load", action="store_true", help="load no module; COMMAND does")
    add("--qemu", action="append", default=[], metavar="ARGS", help="more arguments for QEMU, as one shell word")
    add("--qemu-binary", default="qemu-system-x86_64", metavar="FILE", help="another QEMU")
    add(
        "--accel",
        choices=("auto", "tcg", "tcg-single", "kvm"),
        default="auto",
        help="auto: KVM if a probe guest boots with it; tcg-single: one thread for all processors",
    )
    add("--share", type=Path, metavar="DIR", help="copy DIR to /share, and back when COMMAND has ended")
    add("--file", action="append", default=[], metavar="NAME=PATH", help="a file or directory, as NAME in the guest")
    add("--append", action="append", default=[], metavar="ARGS", help="more kernel arguments")
    add("--kunit", action="store_true", help="run the KUnit suites of the modules as they are loaded")
    add("--no-kmemleak", action="store_true", help="do not look for leaks at the end (debug kernel)")
    add("--allow", action="append", default=[], metavar="REGEX", help="a console or QEMU line that is no failure")
    add("--qmp", type=Path, metavar="PATH", help="QEMU's monitor socket")
    add("--log", type=Path, metavar="DIR", help="directory for console.log and qemu.stderr")
    add("--timeout", type=float, metavar="S", help="seconds (default: 300; none for a shell; 0: none)")
    return top


def pairs(items: list[str], option: str) -> dict[str, str]:
    """NAME=VALUE items of OPTION as a dictionary."""
    result = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or not name or not value:
            raise UserError(f"{option} {item}: write NAME=VALUE.")
        result[name] = value
    return result


def configuration(options: argparse.Namespace, words: list[str]) -> Config:
    """OPTIONS of `guest run` and the WORDS of its COMMAND as a Config."""
    swaps = {name.replace("-", "_"): whose for name, whose in pairs(options.swap, "--swap").items()}
    for name, whose in swaps.items():
        if whose not in ("c", "rust"):
            raise UserError(f"--swap {name}={whose}: the language is c or rust.")
    terminal = not words and sys.stdin.isatty() and sys.stdout.isatty()
    if words:
        command = words[0] if len(words) == 1 else shlex.join(words)
    else:
        command = (initramfs.HERE / ("shell" if terminal else "demo")).read_text()
    files = {name.strip("/"): Path(path) for name, path in pairs(options.file, "--file").items()}
    for path in files.values():
        if not path.exists():
            raise UserError(f"--file: there is no {path}.")
    devices = options.device
    if not words and not options.no_default_devices:
        devices = [*DEMONSTRATED, *devices]
    timeout = options.timeout if options.timeout is not None else 0.0 if terminal else 300.0
    return Config(
        command=command,
        stack=options.stack,
        swaps=swaps,
        kernel=options.kernel,
        kdir=options.kdir or build.own_kdir(),
        modules=options.modules or (build.output_directory(options.kernel) if not options.kdir else None),
        more_modules=options.module,
        root=options.root,
        machine=options.machine,
        smp=options.smp,
        memory=options.memory,
        devices=devices,
        default_devices=bool(words) and not options.no_default_devices,
        load=not options.no_load,
        qemu_args=[word for item in options.qemu for word in shlex.split(item)],
        qemu=options.qemu_binary,
        accel=options.accel,
        share=options.share,
        append=[word for item in options.append for word in item.split()],
        files=files,
        timeout=timeout,
        terminal=terminal,
        kunit=options.kunit,
        kmemleak=not options.no_kmemleak,
        allow=options.allow,
        qmp=options.qmp,
        log=options.log,
    )


def start(config: Config) -> Result:
    """Carry out CONFIG in a QEMU of our own."""
    with Guest(config, write_stdout) as guest:
        say(f"stack: {guest.selection.line()}")
        say(f"console {paths.shown(guest.console)}, QEMU's stderr {paths.shown(guest.stderr)}")
        if config.terminal:
            join(guest)
        return guest.finish()


def run(options: argparse.Namespace, words: list[str]) -> int:
    """Carry out `guest run`; returns the exit status."""
    config = configuration(options, words)
    result = vng.start(config) if config.root == "vng" else start(config)
    if result.reason:
        say(f"failed: {result.reason}")
    return result.status


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Entry point; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    # COMMAND is split off here: argparse would look for options in it.
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser().parse_args(arguments[:end])
    try:
        if options.verb == "run":
            return run(options, arguments[end + 1 :])
        VERBS[options.verb][1](options.kernel)
        return 0
    except UserError as error:
        say(str(error))
        return 2 if options.verb == "run" else 1
    except StepFailed:
        return 1
    except KeyboardInterrupt:
        say("interrupted.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_INTERRUPTED
