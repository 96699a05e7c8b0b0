# SPDX-License-Identifier: GPL-2.0
"""Suite `style`: formatting, lints, layering, licences, documentation."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from guest import paths, pytools
from guest.errors import UserError

from check import manual, walkthrough
from check.command import Command
from check.command import run as run_command
from check.ktap import FAIL, PASS
from check.report import Report, log_path

GUEST = str(paths.TOP / "tools/guest/guest")
HOSTILE = "tools/testing/hostile"
PYTHON_ROOTS = ("tools", "scripts")
# Formats that have no comment, and the licence texts themselves.
NO_SPDX_SUFFIXES = {".json", ".png", ".svg", ".bin", ".md5"}
NO_SPDX_NAMES = {"debian/changelog", "debian/source/format", "debian/rust-virtio-dkms.dkms"}


def sources() -> list[Path]:
    """Files of the tree that are, or could be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=paths.TOP, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("the style suite needs a git work tree.")
    names = sorted({name for name in done.stdout.split("\0") if name})
    return [paths.TOP / name for name in names if (paths.TOP / name).is_file()]


def _first_line(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.readline(200).decode(errors="replace")


def is_shell(path: Path) -> bool:
    """Whether shellcheck can judge PATH."""
    line = _first_line(path)
    if line.startswith("#!"):
        return line.rstrip().endswith(("/sh", "/bash", " sh", " bash"))
    return path.suffix in (".sh", ".bash")


def is_python(path: Path) -> bool:
    """Whether PATH is a Python program or module."""
    return path.suffix == ".py" or (_first_line(path).startswith("#!") and "python" in _first_line(path))


def without_spdx(files: list[Path]) -> list[str]:
    """Those of FILES whose first five lines name no licence."""
    found = []
    for path in files:
        if path.suffix in NO_SPDX_SUFFIXES or "LICENSES" in path.parts or path.stat().st_size == 0:
            continue
        if str(path.relative_to(paths.TOP)) in NO_SPDX_NAMES:
            continue
        head = path.read_bytes()[:600].decode(errors="replace").splitlines()[:5]
        if not any("SPDX-License-Identifier:" in line for line in head):
            found.append(str(path.relative_to(paths.TOP)))
    return found


def tests(files: list[Path]) -> Iterator[Command]:
    """The tests that are commands."""
    yield Command("style/rustfmt", (GUEST, "rustfmtcheck"))
    yield Command("style/clippy-modules", (GUEST, "clippy"))
    host = ("cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-Dwarnings")
    yield Command("style/clippy-host", host)
    backend = ("cargo", "clippy", "--quiet", "--manifest-path", f"{HOSTILE}/backend/Cargo.toml", "--", "-Dwarnings")
    yield Command("style/clippy-hostile", backend, {"CARGO_TARGET_DIR": str(paths.BUILD / "hostile/target")})
    layering = "tools/testing/layering"
    yield Command("style/layering", (sys.executable, f"{layering}/check.py"))
    yield Command("style/layering-tests", (sys.executable, "-m", "unittest", "discover", "-s", layering))
    shells = [str(path.relative_to(paths.TOP)) for path in files if is_shell(path)]
    shells += [f"tools/guest/{name}" for name in ("enter-root", "udev")]
    shells.append("dkms.conf")
    yield Command("style/shellcheck", ("shellcheck", "-x", "-e", "SC1091", *shells))
    pythons = [str(path.relative_to(paths.TOP)) for path in files if is_python(path)]
    bin_directory = pytools.directory("style")
    config = str(paths.TOP / "tools/ruff.toml")
    yield Command("style/ruff", (str(bin_directory / "ruff"), "check", "--config", config, *pythons))
    yield Command("style/ruff-format", (str(bin_directory / "ruff"), "format", "--config", config, "--check", *pythons))
    packages = [word for name in ("guest", "check", "lsvirtio", "rig", "bench") for word in ("-p", name)]
    search = ":".join(str(paths.TOP / name) for name in ("tools", "tools/testing", HOSTILE))
    mypy = (str(bin_directory / "mypy"), "--strict", "--explicit-package-bases", *packages)
    yield Command("style/mypy", mypy, {"MYPYPATH": search})
    pages = [str(path.relative_to(paths.TOP)) for path in sorted((paths.TOP / manual.PAGES).glob("*.[0-9]"))]
    yield Command("style/man-lint", ("mandoc", "-T", "lint", "-W", "warning", *pages))
    output = paths.BUILD / "docs"
    sphinx = str(pytools.directory("docs") / "sphinx-build")
    yield Command("style/docs", (sphinx, "-W", "--keep-going", "-q", "-b", "html", "Documentation", str(output)))


def run(report: Report, long: bool) -> None:
    """Run the suite; LONG changes nothing here."""
    del long
    files = sources()
    for test in tests(files):
        run_command(test, report)
    if report.wants("style/spdx"):
        _report(report, "style/spdx", "no SPDX-License-Identifier", without_spdx(files))
    if report.wants("style/man-source"):
        _report(report, "style/man-source", "manual pages and source differ", manual.problems(paths.TOP))
    if report.wants("style/docs-sample"):
        _report(report, "style/docs-sample", "page and sample differ", walkthrough.problems(paths.TOP))


def _report(report: Report, name: str, what: str, found: list[str]) -> None:
    """Tell REPORT the result of the test NAME, which FOUND something that is WHAT, or nothing."""
    log = log_path(name)
    log.write_text(f"{what}:\n" + "".join(f"{line}\n" for line in found))
    report.result(name, FAIL if found else PASS, 0.0, f"{what}: {len(found)}", log)
