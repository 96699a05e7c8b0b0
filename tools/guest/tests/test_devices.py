# SPDX-License-Identifier: GPL-2.0
"""Device specifications, modules' choice, kernel fragments, and the initramfs."""

import io
import subprocess
import tempfile
import unittest
from pathlib import Path

from guest.cpio import Archive
from guest.devices import Builder, byte_size
from guest.errors import UserError
from guest.kernel import lost
from guest.modules import Selection, choose


class Devices(unittest.TestCase):
    def args(self, *specs: str, transport: str = "pci") -> list[str]:
        with tempfile.TemporaryDirectory() as work:
            builder = Builder(Path(work), transport)
            for spec in specs:
                builder.add(spec)
            return builder.args

    def test_short_name(self) -> None:
        self.assertEqual(self.args("rng,vectors=0"), ["-device", "virtio-rng-pci,id=rng0,vectors=0"])

    def test_two_of_a_kind(self) -> None:
        self.assertIn("virtio-rng-pci,id=rng1", self.args("rng", "rng"))

    def test_own_id(self) -> None:
        self.assertEqual(self.args("rng,id=mine"), ["-device", "virtio-rng-pci,id=mine"])

    def test_backend(self) -> None:
        args = self.args("rng,file=/dev/zero")
        self.assertEqual(args[:2], ["-object", "rng-random,id=entropy0,filename=/dev/zero"])
        self.assertEqual(args[2:], ["-device", "virtio-rng-pci,rng=entropy0,id=rng0"])

    def test_without_pci(self) -> None:
        self.assertEqual(self.args("rng", transport="device"), ["-device", "virtio-rng-device,id=rng0"])

    def test_scsi_has_a_disk(self) -> None:
        args = self.args("blk", "scsi,packed=on")
        self.assertIn("virtio-scsi-pci,id=scsi0,packed=on", args)
        self.assertEqual(args[-1], "scsi-hd,bus=scsi0.0,drive=disk1")

    def test_shared_directory(self) -> None:
        args = self.args("9p,path=/tmp,vectors=0")
        self.assertEqual(args[:2], ["-fsdev", "local,id=fs0,path=/tmp,security_model=none"])
        self.assertEqual(args[3], "virtio-9p-pci,fsdev=fs0,mount_tag=share0,id=share0,vectors=0")

    def test_no_directory(self) -> None:
        with self.assertRaises(UserError):
            self.args("9p,path=/nonexistent")

    def test_raw(self) -> None:
        self.assertEqual(self.args("pcie-root-port,id=port0"), ["-device", "pcie-root-port,id=port0"])

    def test_missing_file(self) -> None:
        with self.assertRaises(UserError):
            self.args("blk,file=/nonexistent")

    def test_label(self) -> None:
        with tempfile.TemporaryDirectory() as work:
            Builder(Path(work)).add("blk,size=1M,label=mine")
            self.assertIn(b"mine", (Path(work) / "scratch0.img").read_bytes()[1024:2048])
        with self.assertRaises(UserError):
            self.args("blk,file=/dev/null,label=mine")

    def test_size(self) -> None:
        self.assertEqual(byte_size("64M"), 64 << 20)
        self.assertEqual(byte_size("512"), 512)
        with self.assertRaises(UserError):
            byte_size("many")


class Choice(unittest.TestCase):
    def selection(self) -> Selection:
        c = {name: Path(f"{name}.ko") for name in ("virtio_ring", "virtio", "virtio_rng", "virtio_blk")}
        rust = {name: Path(f"{name}.ko") for name in ("virtio_ring", "virtio", "virtio_rng", "sample")}
        return Selection(c, rust)

    def test_rust_where_there_is_one(self) -> None:
        selection = self.selection()
        choose(selection, "rust", {"virtio_rng": "c"})
        self.assertEqual(selection.line(), "virtio_ring=rust virtio=rust virtio_rng=c virtio_blk=c")

    def test_experimental_only_if_asked_for(self) -> None:
        for swaps, whose in (({}, "c"), ({"virtio_balloon": "rust"}, "rust")):
            selection = self.selection()
            selection.c["virtio_balloon"] = selection.rust["virtio_balloon"] = Path("virtio_balloon.ko")
            choose(selection, "rust", swaps)
            self.assertEqual(selection.choice["virtio_balloon"], whose)

    def test_c(self) -> None:
        selection = self.selection()
        choose(selection, "c", {})
        self.assertNotIn("rust", selection.line())

    def test_nothing_built(self) -> None:
        selection = Selection(self.selection().c, {})
        with self.assertRaises(UserError):
            choose(selection, "rust", {})

    def test_not_built(self) -> None:
        with self.assertRaises(UserError):
            choose(self.selection(), "rust", {"virtio_blk": "rust"})

    def test_unknown(self) -> None:
        with self.assertRaises(UserError):
            choose(self.selection(), "rust", {"virtio_disk": "c"})


class Fragments(unittest.TestCase):
    def test_lost(self) -> None:
        config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=m\n"
        wanted = "# a comment\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=y\nCONFIG_D=n\n"
        self.assertEqual(lost(config, wanted), ["CONFIG_C=y", "CONFIG_D=n"])


class Initramfs(unittest.TestCase):
    def test_cpio_reads_it(self) -> None:
        out = io.BytesIO()
        archive = Archive(out)
        archive.data("a/b/file", b"content", 0o755)
        archive.symlink("a/link", "b/file")
        archive.character_device("dev/console", 5, 1)
        archive.close()
        done = subprocess.run(["cpio", "-itv"], input=out.getvalue(), capture_output=True, check=True)
        listing = done.stdout.decode().splitlines()
        self.assertEqual([line.split()[8] for line in listing if not line.startswith("c")],
                         ["a", "a/b", "a/b/file", "a/link", "dev"])  # fmt: skip
        self.assertTrue(any(line.startswith("crw-------") and "dev/console" in line for line in listing))


if __name__ == "__main__":
    unittest.main()
