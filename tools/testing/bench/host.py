# SPDX-License-Identifier: GPL-2.0
"""`bench host`: the rings alone, in a process, counted by callgrind."""

import itertools
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from guest import kernel, paths, step, toolchain
from guest.errors import UserError

from bench import build, results
from bench.results import Key, Row

ROUNDS = 1000
# Functions of the programs that are not the ring's, and what start-up does.
NOT_THE_RING = ("bench_", "main", "_start", "__libc", "_init", "_fini", "frame_dummy", "register_tm_clones")

# As tools/virtio/Makefile of the kernel has them, but for gcc's own, and without debug information:
# older valgrinds cannot read that of newer compilers.
C_FLAGS = (
    *("-O2", "-w", "-pthread", "-fno-strict-overflow", "-fno-strict-aliasing", "-fno-common"),
    *("-U_FORTIFY_SOURCE", "-fcf-protection=none"),
)


def c_ring() -> Path:
    """The kernel's virtio_ring.c with our ring.c, as a program."""
    source = kernel.fetch()
    work = build.OUTPUT / "host"
    overlay = work / "include/linux/device-id"
    overlay.mkdir(parents=True, exist_ok=True)
    # The one header that tools/virtio has no stand-in for.
    shutil.copyfile(source / "include/linux/device-id/virtio.h", overlay / "virtio.h")
    includes = [f"-I{work / 'include'}", f"-I{source / 'tools/virtio'}", f"-I{source / 'tools/include'}"]
    program = work / "ring-c"
    command = [
        *(toolchain.clang(), *C_FLAGS, *includes, "-include", str(source / "include/linux/kconfig.h")),
        *("-o", str(program), str(source / "drivers/virtio/virtio_ring.c"), str(build.HERE / "host/ring.c")),
    ]
    step.run("bench-host-c", "building the C ring for the host", command)
    return program


def cargo(*arguments: str) -> list[str]:
    """A cargo command for the crate beside this file, its output below build/bench."""
    manifest = build.HERE / "host/Cargo.toml"
    target = build.OUTPUT / "host/target"
    return ["cargo", *arguments, "--manifest-path", str(manifest), "--target-dir", str(target)]


def rust_ring() -> Path:
    """Our rings, as a program."""
    # Debian's rustc, which compiles the modules, has the LLVM of the C side.
    env = {"RUSTC": toolchain.rustc()}
    step.run("bench-host-rust", "building the Rust ring for the host", cargo("build", "--release", "--quiet"), env=env)
    return build.OUTPUT / "host/target/release/ring"


def exclusive(lines: Iterable[str]) -> Counter[tuple[str, str]]:
    """Instructions by (object, function) in LINES of a callgrind file, without those of callees."""
    names: dict[str, str] = {}
    found: Counter[tuple[str, str]] = Counter()
    where = {"ob": "", "fn": ""}
    skip = False

    def name(kind: str, text: str) -> str:
        # `(12) name` defines what `(12)` means from then on, by kind of name.
        number, _, rest = text.partition(" ")
        if rest:
            names[kind + number] = rest
        return names.get(kind + number, text)

    for line in lines:
        text = line.rstrip("\n")
        kind, separator, value = text.partition("=")
        if separator and kind in ("ob", "fn"):
            where[kind] = name(kind, value)
        elif separator and kind in ("cob", "cfn"):
            # Callees share the numbers of callers.
            name(kind[1:], value)
        elif text.startswith("calls="):
            skip = True
        elif text[:1].isdigit() or text[:1] in "+-*":
            words = text.split()
            if not skip and len(words) == 2:
                found[where["ob"], where["fn"]] += int(words[1])
            skip = False
    return found


def of_the_ring(counts: Counter[tuple[str, str]], program: Path) -> dict[str, int]:
    """Instructions by function of the ring in PROGRAM: neither the C library nor the harness."""
    kept: Counter[str] = Counter()
    for (where, function), count in counts.items():
        plain = function.rpartition("::")[2].removeprefix("_RN")
        if Path(where).name == program.name and not plain.startswith(NOT_THE_RING):
            kept[function] += count
    return dict(kept)


def measure(program: Path, layout: str, tables: str, batch: int) -> dict[str, float]:
    """Instructions of the ring for each chain, by function, in a process of its own."""
    out = build.OUTPUT / "host/callgrind.out"
    counts = []
    # Twice, so that what happens once is subtracted.
    for rounds in (ROUNDS, 2 * ROUNDS):
        command = [
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-pos=no", "--quiet"),
            *(str(program), layout, tables, str(batch), str(rounds)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode != 0:
            raise UserError(f"bench host: {program.name} under valgrind failed: {done.stderr.strip()}")
        with out.open() as stream:
            counts.append(of_the_ring(exclusive(stream), program))
    chains = ROUNDS * batch
    functions = {name: (count - counts[0].get(name, 0)) / chains for name, count in counts[1].items()}
    return {name: value for name, value in functions.items() if value > 0}


def run(criterion: bool) -> int:
    """Count both rings; with CRITERION, time the Rust one too."""
    if shutil.which("valgrind") is None:
        raise UserError("bench host: valgrind is missing: `make deps` installs it.")
    programs = {"c": c_ring(), "rust": rust_ring()}
    rows: list[Row] = []
    for layout, tables, batch in itertools.product(("split", "packed"), ("direct", "indirect"), (1, 32)):
        found = {side: sum(measure(program, layout, tables, batch).values()) for side, program in programs.items()}
        key: Key = (f"host-add-get-{batch}", f"{layout}+indirect" if tables == "indirect" else layout, "ring")
        rows.append(Row(key, found["c"], found["rust"], 0.0))
        print(f"{key[0]} {key[1]}: C {found['c']:.2f}, Rust {found['rust']:.2f}", flush=True)
    results.write_csv(build.OUTPUT / "host.csv", rows)
    text = "Instructions per chain of three segments, C / Rust = ratio; allocation is not counted.\n\n"
    (build.OUTPUT / "host.md").write_text(text + results.markdown(rows, ["ring"]))
    print(f"Written: {paths.shown(build.OUTPUT)}/host.csv, host.md")
    if criterion:
        env = {"RUSTC": toolchain.rustc()}
        step.run("bench-criterion", "timing the Rust ring", cargo("bench", "--quiet"), env=env)
        print(f"Times: {paths.shown(paths.LOGS)}/bench-criterion.log")
    return 0
