# SPDX-License-Identifier: GPL-2.0
"""The Debian packages: built from a copy of the tree, and what is in them."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from guest import paths

from lsvirtio import lsvirtio

# Seconds that a package may take.
PATIENCE = 600
# What a module is built from; the rest of the tree is for who develops it.
SOURCES = ("Kbuild", "Makefile", "drivers", "rust", "samples", "scripts", "tools/guest", "tools/doctor")


def run(*command: str, where: Path) -> str:
    """What COMMAND prints in the directory WHERE; AssertionError if it fails."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


class Packages(unittest.TestCase):
    work: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.work = Path(tempfile.mkdtemp(prefix="debian-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        tree = cls.work / "tree"
        for name in cls.tracked():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.TOP / name, tree / name)
        run("dpkg-buildpackage", "-b", "-us", "-uc", where=tree)
        for package in ("dkms", "utils"):
            (deb,) = cls.work.glob(f"rust-virtio-{package}_*_all.deb")
            run("dpkg-deb", "-R", str(deb), str(cls.work / package), where=cls.work)

    @staticmethod
    def tracked() -> list[str]:
        """The files that are, or could be, committed."""
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", where=paths.TOP)
        return [name for name in listed.split("\0") if name and (paths.TOP / name).is_file()]

    def control(self, package: str) -> str:
        return (self.work / package / "DEBIAN/control").read_text()

    def test_version(self) -> None:
        for package in ("dkms", "utils"):
            self.assertIn(f"\nVersion: {lsvirtio.VERSION}\n", self.control(package))

    def test_all_that_modules_are_built_from(self) -> None:
        source = self.work / f"dkms/usr/src/rust-virtio-{lsvirtio.VERSION}"
        packed = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
        wanted = {name for name in self.tracked() if name.startswith(SOURCES)}
        self.assertGreater(len(wanted), 200)
        self.assertEqual(wanted - packed, set())
        self.assertIn("dkms.conf", packed)
        self.assertFalse([name for name in packed if "__pycache__" in name or name.startswith("build/")])

    def test_dkms_and_initramfs_are_told(self) -> None:
        self.assertRegex(self.control("dkms"), r"(?m)^Depends: .*\bdkms\b")
        for script in ("postinst", "prerm"):
            text = (self.work / "dkms/DEBIAN" / script).read_text()
            self.assertIn("\nDKMS_NAME=rust-virtio\n", text)
            self.assertIn(f"\nDKMS_VERSION={lsvirtio.VERSION}\n", text)
        self.assertIn("activate-noawait update-initramfs", (self.work / "dkms/DEBIAN/triggers").read_text())

    def test_tools(self) -> None:
        for name in ("lsvirtio", "virtio-report"):
            program = str(self.work / "utils/usr/bin" / name)
            self.assertEqual(run(program, "--version", where=self.work), f"{name} {lsvirtio.VERSION}\n")
        pages = {path.name for path in (self.work / "utils/usr/share/man").rglob("*.gz")}
        self.assertEqual(pages, {f"{path.name}.gz" for path in (paths.TOP / "Documentation/man").iterdir()})
        self.assertIn("\nDepends: python3\n", self.control("utils"))
