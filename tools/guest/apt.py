# SPDX-License-Identifier: GPL-2.0
"""Debian packages, also from suites the machine is not set up for.

The mirror is always the one the machine's own apt configuration names.  A foreign suite is read
through a private apt state, so that nothing of the machine's setup changes.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from guest import paths, step
from guest.errors import UserError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def codename() -> str:
    """Codename of the Debian release this machine runs, e.g. bookworm."""
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise UserError("/etc/os-release has no VERSION_CODENAME: this is not a Debian machine; bring a kernel with KDIR=.")


def mirror() -> str:
    """URI of the Debian archive in the machine's apt configuration."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        uri, release, component = line.split()
        if release == codename() and component == "main":
            return uri
    raise UserError("apt knows no mirror of this Debian release: run `apt-get update`, or look at apt's sources.")


def as_root(command: list[str]) -> list[str]:
    """COMMAND, through sudo unless we are root."""
    return command if os.geteuid() == 0 else ["sudo", *command]


@dataclass(frozen=True)
class Suite:
    """A private apt state that knows SUITE, beside the machine's own sources if WITH_OWN."""

    suite: str
    with_own: bool

    @property
    def directory(self) -> Path:
        """Where its lists and packages are kept."""
        return paths.cache() / "apt" / self.suite

    def options(self) -> list[str]:
        """Options that make apt-get use this state."""
        base = self.directory
        own = "/etc/apt/sources.list.d" if self.with_own else "/dev/null"
        return [
            *("-o", f"Dir::Etc::SourceList={base}/sources.list", "-o", f"Dir::Etc::SourceParts={own}"),
            *("-o", f"Dir::State::Lists={base}/lists", "-o", f"Dir::Cache={base}/cache"),
            *("-o", "APT::Sandbox::User=root"),
        ]

    def update(self, log: str) -> None:
        """Make the state and fetch the lists."""
        base = self.directory
        for name in ("lists/partial", "cache/archives/partial"):
            (base / name).mkdir(parents=True, exist_ok=True)
        classic = Path("/etc/apt/sources.list")
        own = classic.read_text() if self.with_own and classic.exists() else ""
        (base / "sources.list").write_text(f"{own}\ndeb [signed-by={KEYRING}] {mirror()} {self.suite} main\n")
        step.run(log, f"package lists of {self.suite}", ["apt-get", *self.options(), "update"], append=True)

    def download(self, package: str, into: Path, log: str) -> Path:
        """Fetch PACKAGE from the suite into directory INTO; returns the .deb."""
        into.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", *self.options(), "download", package]
        step.run(log, f"download of {package}", command, cwd=into, append=True)
        found = sorted(into.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"apt-get download left no {package} in {into}.")
        return found[-1]


def install(packages: list[str], log: str, suite: Suite | None = None) -> None:
    """Install PACKAGES, without what they only recommend, from the machine's suites or from SUITE."""
    command = ["apt-get"]
    if suite is not None:
        command += [*suite.options(), "-t", suite.suite]
    command += ["install", "-y", "--no-install-recommends", *packages]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    step.run(log, f"installing {' '.join(packages)}", as_root(command), env=env, append=True)
