# SPDX-License-Identifier: GPL-2.0
"""The kernel's selftests of network drivers, with the programs that they have to be compiled for."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from guest import kernel, paths, toolchain

SELFTESTS = Path("tools/testing/selftests")
NET = SELFTESTS / "drivers/net"
# What the tests need of the kernel's tree, where it is there.
PARTS = (
    SELFTESTS / "net/lib",
    SELFTESTS / "net/lib.sh",
    SELFTESTS / "net/forwarding/lib.sh",
    SELFTESTS / "lib",
    SELFTESTS / "kselftest",
    NET,
    Path("tools/net/ynl/pyynl"),
    Path("Documentation/netlink/specs"),
)
# Directories there of other drivers.
OTHERS = ("bonding", "dsa", "microchip", "mlxsw", "netconsole", "netdevsim", "ocelot", "team")
PROGRAMS = (
    SELFTESTS / "net/lib/csum",
    SELFTESTS / "net/lib/gro",
    SELFTESTS / "net/lib/xdp_helper",
    NET / "napi_id_helper",
)
COMPLETE = ".complete"


def network() -> Path:
    """The part of the kernel's tree that holds the tests, its programs compiled; made if it is not there."""
    source = kernel.fetch()
    digest = hashlib.sha256(f"{source}\0{Path(__file__).read_text()}".encode()).hexdigest()[:12]
    where = paths.BUILD / f"kselftest-{digest}"
    if not (where / COMPLETE).exists():
        work = paths.BUILD / f"kselftest-{digest}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        _copy(source, work)
        _compile(source, work)
        (work / COMPLETE).touch()
        # Complete, so that half of it is never taken for the whole.
        if where.exists():
            shutil.rmtree(work)
        else:
            work.rename(where)
    return where


def _copy(source: Path, work: Path) -> None:
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, work / part, ignore=shutil.ignore_patterns(*OTHERS))
        elif (source / part).exists():
            (work / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / part, work / part)


def _compile(source: Path, work: Path) -> None:
    headers = work / "headers"
    make = ["make", "-s", "-C", str(source), f"O={work / 'obj'}", *toolchain.make_arguments()]
    _run([*make, "headers_install", f"INSTALL_HDR_PATH={headers}"])
    shutil.rmtree(work / "obj")
    helpers = [source / "scripts/bpf_doc.py", "--header", "--file", source / "include/uapi/linux/bpf.h"]
    (headers / "bpf_helper_defs.h").write_text(_run(["python3", *map(str, helpers)]))
    clang = toolchain.tool("CLANG", f"clang{toolchain.llvm()}")
    include = [f"-I{headers / 'include'}"]
    for program in sorted((work / SELFTESTS / "net/lib").glob("*.bpf.c")):
        libbpf = [f"-I{source / 'tools/lib'}", f"-I{headers}"]
        output = program.with_suffix(".o")
        _run([clang, "-target", "bpf", "-O2", "-g", *include, *libbpf, "-c", str(program), "-o", str(output)])
    library = [f"-I{source / SELFTESTS}", f"-I{source / SELFTESTS / 'kselftest'}"]
    for program in PROGRAMS:
        output = work / program
        _run([clang, "-static", "-O2", "-w", *include, *library, f"{output}.c", "-o", str(output)])


def _run(command: list[str]) -> str:
    """What COMMAND prints; RuntimeError with all of it if it fails."""
    env = {**os.environ, "MAKEFLAGS": "", "MFLAGS": "", "MAKEOVERRIDES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
