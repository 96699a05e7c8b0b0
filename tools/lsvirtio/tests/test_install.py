# SPDX-License-Identifier: GPL-2.0
"""tools_install, and what dkms.conf says."""

import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from guest import kernel, modules, paths

from lsvirtio import lsvirtio, virtio_report

PAGES = {path.name for path in (paths.TOP / "Documentation/man").iterdir()}
SAMPLE = "rust_virtio_minimal"


class Install(unittest.TestCase):
    def setUp(self) -> None:
        self.destination = Path(tempfile.mkdtemp(prefix="tools-install-"))
        self.addCleanup(shutil.rmtree, self.destination)

    def make(self, goal: str) -> None:
        command = ["make", "-s", "-C", str(paths.TOP), goal, f"DESTDIR={self.destination}", "PREFIX=/usr"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def files(self) -> dict[str, int]:
        found = (path for path in self.destination.rglob("*") if path.is_file())
        return {str(path.relative_to(self.destination / "usr")): path.stat().st_mode & 0o777 for path in found}

    def test_files(self) -> None:
        self.make("tools_install")
        expected = {
            "bin/lsvirtio": 0o755,
            "bin/virtio-report": 0o755,
            "share/lsvirtio/lsvirtio.schema.json": 0o644,
            "share/bash-completion/completions/lsvirtio": 0o644,
            **{f"share/man/man{name[-1]}/{name}": 0o644 for name in PAGES},
        }
        self.assertGreaterEqual(len(PAGES), 8)
        self.assertEqual(self.files(), expected)
        self.make("tools_uninstall")
        self.assertEqual(self.files(), {})
        self.assertFalse((self.destination / "usr/share/lsvirtio").exists())
        # Nothing to be removed is no error.
        self.make("tools_uninstall")

    def test_what_is_installed_works_alone(self) -> None:
        self.make("tools_install")
        for name in ("lsvirtio", "virtio-report"):
            command = [str(self.destination / "usr/bin" / name), "--version"]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, cwd="/", env={"PATH": "/usr/bin:/bin"}
            )
            self.assertEqual(done.stdout, f"{name} {lsvirtio.VERSION}\n")


class Dkms(unittest.TestCase):
    def value(self, expression: str, cache: str = "/nowhere") -> str:
        script = f'kernel_source_dir=/kernel; dkms_tree=/dkms; . "$0"; printf "%s\\n" {expression}'
        command = ["bash", "-c", script, str(paths.TOP / "dkms.conf")]
        environment = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": cache}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        self.assertEqual(done.stderr, "")
        return done.stdout.strip()

    def test_version(self) -> None:
        manifest = tomllib.loads((paths.TOP / "rust/virtio_spec/Cargo.toml").read_text())
        versions = {self.value('"$PACKAGE_VERSION"'), lsvirtio.VERSION, virtio_report.VERSION}
        self.assertEqual(versions, {manifest["package"]["version"]})

    def test_kernels(self) -> None:
        pattern = self.value('"$BUILD_EXCLUSIVE_KERNEL"')
        for release in (
            kernel.VERSION,
            f"{kernel.VERSION}.4",
            f"{kernel.VERSION}-rc1",
            f"{kernel.VERSION}.0+deb13-amd64",
        ):
            self.assertRegex(release, pattern)
        for release in ("7.30.1", "6.7.3", "7.4.0", "17.3"):
            self.assertNotRegex(release, pattern)

    def test_configuration_is_that_of_our_kernels(self) -> None:
        fragment = kernel.fragment("release")
        for option in self.value('"$BUILD_EXCLUSIVE_CONFIG"').split():
            self.assertRegex(fragment, rf"(?m)^{option}=[ym]$")

    def test_modules_are_those_that_are_installed(self) -> None:
        built = re.findall(r"[\w-]+(?=\.o)", "".join(re.findall(r"obj-m.*", (paths.TOP / "Kbuild").read_text())))
        wanted = {name for name in built if name not in (*modules.EXPERIMENTAL, SAMPLE)}
        names = self.value('"${BUILT_MODULE_NAME[@]}"').split()
        self.assertEqual(set(names), wanted)
        self.assertEqual(self.value('"${DEST_MODULE_LOCATION[@]}"').split(), ["/updates/dkms"] * len(names))
        self.assertEqual(self.value('"${BUILT_MODULE_LOCATION[@]}"').split(), ["dkms"] * len(names))

    def test_the_command_is_one_that_make_has(self) -> None:
        words = self.value('"${MAKE[0]}"').split()
        self.assertEqual(words[:3], ["make", "modules", "KDIR=/kernel"])
        self.assertEqual(words[3:], [f"MO=/dkms/rust-virtio/{lsvirtio.VERSION}/build/dkms", "BINDGEN=bindgen"])

    def test_what_dkms_adds_does_not_reach_the_kernel(self) -> None:
        # dkms adds the variables of the kernel's compiler, without its version.
        added = ["CC=clang", "LD=ld.lld", "KERNELRELEASE=7.3.4"]
        shown = ["GUEST=sh -c 'echo flags: $$MAKEFLAGS kdir: $$KDIR' x"]
        command = ["make", "-s", "-C", str(paths.TOP), "modules", "KDIR=/kernel", *added, *shown]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertIn("kdir: /kernel", done.stdout)
        self.assertNotIn("clang", done.stdout)
        self.assertNotIn("LD=", done.stdout)

    def test_bindgen_of_the_cache(self) -> None:
        with tempfile.TemporaryDirectory() as cache:
            own = Path(cache) / "rust-virtio/bindgen/1.2.3/bin/bindgen"
            own.parent.mkdir(parents=True)
            own.touch()
            self.assertNotIn("BINDGEN", self.value('"${MAKE[0]}"', cache))
