# SPDX-License-Identifier: GPL-2.0
"""lsvirtio on trees of files, its tables against rust/virtio_spec, its schema and its completion."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from check import manual
from guest import paths

from lsvirtio import lsvirtio, virtio_report
from lsvirtio.lsvirtio import Json
from lsvirtio.schema import Validator
from lsvirtio.tests.fake_sysfs import QUEUES, FakeSysfs, c_stack, rust_stack

SPEC = paths.TOP / "rust/virtio_spec"
FEATURE = re.compile(r'^\s*\w+ = (\d+), "(VIRTIO_\w+)",', re.MULTILINE)
COMPLETION = paths.TOP / "tools/lsvirtio/lsvirtio.bash"


def run(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Status, output and errors of lsvirtio on the tree at ROOT."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = lsvirtio.main(["--sysfs", str(root), *arguments])
    return status, out.getvalue(), err.getvalue()


class OnATree(unittest.TestCase):
    schema: Validator

    @classmethod
    def setUpClass(cls) -> None:
        cls.schema = Validator()
        cls.addClassCleanup(cls.schema.close)

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="lsvirtio-")) / "sys"
        self.addCleanup(shutil.rmtree, self.root.parent)

    def report(self, make: Callable[[Path], FakeSysfs]) -> Json:
        make(self.root)
        return self.again()

    def again(self) -> Json:
        status, out, err = run(self.root, "--json")
        self.assertEqual((status, err), (0, ""))
        found: Json = json.loads(out)
        self.assertEqual(self.schema.errors(found), [])
        return found

    def only(self, report: Json) -> Json:
        (device,) = report["devices"]
        assert isinstance(device, dict)
        return device

    def whys(self, device: Json) -> dict[str, str]:
        return {item["what"]: item["why"] for item in device["unknown"]}


class Rust(OnATree):
    def test_all_is_known(self) -> None:
        report = self.report(rust_stack)
        self.assertEqual([module["language"] for module in report["core"]], ["rust", "rust"])
        self.assertEqual([device["name"] for device in report["devices"]], ["virtio0", "virtio2", "virtio10"])
        self.assertEqual([device["unknown"] for device in report["devices"]], [[], [], []])

    def test_whose_the_modules_are(self) -> None:
        disk, console, _ = self.report(rust_stack)["devices"]
        self.assertEqual(disk["driver"]["module"]["language"], "rust")
        self.assertEqual(disk["transport"]["driver"]["module"]["name"], "virtio_pci")
        self.assertEqual(disk["transport"]["driver"]["module"]["language"], "rust")
        self.assertEqual(console["driver"]["module"]["language"], "c")

    def test_what_is_out_of_tree_need_not_be_rust(self) -> None:
        fake = rust_stack(self.root)
        fake.write("module/virtio_console/taint", "OE")
        self.assertEqual(self.again()["devices"][1]["driver"]["module"]["language"], "c")

    def test_features(self) -> None:
        features = self.report(rust_stack)["devices"][0]["features"]
        names = {key: [(bit["bit"], bit["name"]) for bit in value] for key, value in features.items()}
        self.assertEqual(names["refused"], [(13, "VIRTIO_BLK_F_DISCARD"), (40, "VIRTIO_F_RING_RESET"), (99, None)])
        self.assertEqual(names["filtered"], [(13, "VIRTIO_BLK_F_DISCARD")])
        self.assertEqual(sorted(names["offered"]), sorted(names["accepted"] + names["refused"]))

    def test_queues(self) -> None:
        first, second = self.report(rust_stack)["devices"][0]["queues"]
        self.assertEqual(
            first,
            {
                "index": 0,
                "name": "req.0",
                "size": 256,
                "free": 250,
                "layout": "packed",
                "indirect": True,
                "event_idx": True,
                "broken": False,
                "counters": {"adds": 1000, "kicks": 40, "notifications": 30, "interrupts": 25, "used": 994},
                "vector": {"irq": 25, "shared": False, "cpus": [0]},
                "serves_cpus": [0],
            },
        )
        self.assertTrue(second["broken"])
        self.assertEqual((second["vector"]["irq"], second["serves_cpus"]), (26, [1]))

    def test_queues_that_share_a_vector(self) -> None:
        _, console, rng = self.report(rust_stack)["devices"]
        self.assertEqual([queue["vector"]["irq"] for queue in console["queues"]], [29, 29])
        self.assertEqual([queue["name"] for queue in console["queues"]], ["in_put", None])
        self.assertEqual(rng["queues"][0]["vector"], {"irq": 28, "shared": True, "cpus": [0]})

    def test_a_queue_without_an_interrupt(self) -> None:
        fake = rust_stack(self.root)
        fake.queues("virtio0", "0 req.0 8 8 split 0 0 0 0 0 0 0 0", "1 req_poll.1 8 8 split 0 0 0 0 0 0 0 0")
        self.assertEqual([bool(queue["vector"]) for queue in self.again()["devices"][0]["queues"]], [True, False])

    def test_a_name_that_debugfs_does_not_print(self) -> None:
        fake = rust_stack(self.root)
        fake.queues("virtio0", "0 a_b 8 8 split 0 0 0 0 0 0 0 0")
        fake.irq(25, "virtio0-a b")
        self.assertEqual(self.again()["devices"][0]["queues"][0]["vector"]["irq"], 25)

    def test_columns_that_are_to_come(self) -> None:
        fake = rust_stack(self.root)
        fake.queues("virtio10", "x 0 input 8 7 split 1 1 0 5 5 5 4 4 9", header=f"new {QUEUES} newer")
        queue = self.again()["devices"][2]["queues"][0]
        self.assertEqual((queue["index"], queue["size"], queue["counters"]["used"]), (0, 8, 4))

    def test_vectors_and_statistics(self) -> None:
        disk = self.report(rust_stack)["devices"][0]
        self.assertEqual(disk["interfaces"], ["vda"])
        self.assertEqual(disk["vectors"][1]["interrupts_per_cpu"], [20, 5])
        self.assertEqual(disk["statistics"][0], {"index": 0, "timeouts": 2, "resets": 1})

    def test_packets_of_a_processor(self) -> None:
        fake = FakeSysfs(self.root)
        fake.device("virtio0", 1, [32], driver="virtio_net", at="pci0000:00/0000:00:02.0")
        fake.queues("virtio0", "1 output.0 8 8 split 0 0 0 0 0 0 0 0")
        mask = "devices/pci0000:00/0000:00:02.0/virtio0/net/eth0/queues/tx-0/xps_cpus"
        for text, expected in (("00000001,00000006", [1, 2, 32]), ("", None)):
            fake.write(mask, text)
            self.assertEqual(self.only(self.again())["queues"][0]["serves_cpus"], expected)


class Others(OnATree):
    def test_c_stack(self) -> None:
        report = self.report(c_stack)
        device = self.only(report)
        self.assertEqual([module["language"] for module in report["core"]], ["c", "c"])
        self.assertEqual(device["driver"]["module"]["language"], "c")
        (queue,) = device["queues"]
        self.assertEqual((queue["name"], queue["layout"], queue["size"]), ("req.0", "split-in-order", None))
        self.assertEqual(queue["vector"]["irq"], 25)
        self.assertIn(lsvirtio.NO_QUEUES, self.whys(device).values())
        self.assertEqual(device["features"]["refused"], [])

    def test_c_stack_without_vectors(self) -> None:
        fake = c_stack(self.root)
        shutil.rmtree(self.root / "kernel/irq")
        fake.irq(11, "virtio0")
        device = self.only(self.again())
        self.assertIsNone(device["queues"])
        self.assertEqual(self.whys(device)["queues"], lsvirtio.SHARED)

    def test_without_a_filter(self) -> None:
        c_stack(self.root)
        shutil.rmtree(self.root / "kernel/debug/virtio")
        device = self.only(self.again())
        self.assertIsNone(device["features"]["offered"])
        self.assertIsNone(device["features"]["refused"])
        self.assertIn(lsvirtio.NO_FILTER, self.whys(device).values())

    def test_without_debugfs(self) -> None:
        rust_stack(self.root)
        shutil.rmtree(self.root / "kernel/debug")
        (self.root / "kernel/debug").mkdir()
        disk = self.again()["devices"][0]
        self.assertEqual(set(self.whys(disk).values()), {lsvirtio.NOT_MOUNTED})
        # Vectors are named after the queues.
        self.assertEqual([queue["name"] for queue in disk["queues"]], ["req.0", "req.1"])

    def test_debugfs_that_is_not_for_us(self) -> None:
        rust_stack(self.root)
        real_list, real_read = Path.iterdir, Path.read_text

        def refuse(path: Path) -> None:
            if "debug" in path.parts:
                raise PermissionError(13, "Permission denied")

        def listed(path: Path) -> object:
            refuse(path)
            return real_list(path)

        def read(path: Path, errors: str | None = None) -> str:
            refuse(path)
            return real_read(path, errors=errors)

        with mock.patch.object(Path, "iterdir", listed), mock.patch.object(Path, "read_text", read):
            disk = self.again()["devices"][0]
        self.assertEqual(set(self.whys(disk).values()), {lsvirtio.NOT_READABLE})
        self.assertEqual(disk["driver"]["module"]["language"], "rust")

    def test_built_in(self) -> None:
        fake = FakeSysfs(self.root)
        # A driver with parameters has a directory though it is built in.
        fake.write("module/virtio_blk/parameters/num_request_queues", "0")
        fake.device("virtio0", 2, [32], driver="virtio_blk", at="pci0000:00/0000:00:02.0")
        fake.offered("virtio0", [32])
        report = self.again()
        self.assertEqual([module["language"] for module in report["core"]], ["c", "c"])
        module = self.only(report)["driver"]["module"]
        self.assertEqual((module["name"], module["language"], module["built_in"]), ("virtio_blk", None, True))
        fake.queues("virtio0")
        self.assertEqual([module["language"] for module in self.again()["core"]], ["rust", "rust"])

    def test_other_transports(self) -> None:
        fake = FakeSysfs(self.root)
        fake.module("virtio_mmio")
        fake.device("virtio0", 4, [], driver="virtio_rng", status=7, bus="platform", at="platform/virtio-mmio.3")
        fake.device("virtio1", 4, [32], driver="virtio_rng", bus="vdpa", at="virtual/vdpa0")
        mmio, vdpa = self.again()["devices"]
        self.assertEqual((mmio["transport"]["bus"], mmio["transport"]["interface"]), ("mmio", "legacy"))
        self.assertEqual(mmio["transport"]["driver"]["module"]["language"], "c")
        self.assertEqual((vdpa["transport"]["bus"], vdpa["transport"]["interface"]), ("vdpa", "modern"))
        self.assertEqual(vdpa["transport"]["device"], "vdpa0")

    def test_states(self) -> None:
        states = {0xFF: "gone", 0x8F: "failed", 0x4F: "needs-reset", 0x1B: "suspended", 1: "idle", 0xF: "ready"}
        fake = FakeSysfs(self.root)
        for number, status in enumerate(states):
            fake.device(f"virtio{number}", 4, [], status=status, at=f"pci0000:00/0000:00:0{number}.0")
        devices = self.again()["devices"]
        self.assertEqual({d["status"]["value"]: d["status"]["state"] for d in devices}, states)
        self.assertEqual([d["driver"] for d in devices], [None] * len(states))
        self.assertEqual(
            {d["transport"]["interface"] for d in devices if d["status"]["value"] != 0xF} - {"legacy"}, {None}
        )

    def test_a_type_that_nobody_knows(self) -> None:
        fake = FakeSysfs(self.root)
        fake.device("virtio0", 999, [3], at="pci0000:00/0000:00:02.0")
        self.assertEqual(self.only(self.again())["type"], {"id": 999, "name": None})
        self.assertIn("type-999", run(self.root)[1])

    def test_a_device_that_goes_away(self) -> None:
        rust_stack(self.root)
        (self.root / "devices/pci0000:00/0000:00:03.0/virtio10/status").unlink()
        self.assertEqual([device["name"] for device in self.again()["devices"]], ["virtio0", "virtio2"])

    def test_no_device(self) -> None:
        self.assertEqual(self.report(FakeSysfs)["devices"], [])
        self.assertEqual(run(self.root)[1].splitlines()[-1], "no virtio device")

    def test_the_schema_finds_mistakes(self) -> None:
        good = {"schema": 1, "kernel": "7.3", "core": [], "devices": []}
        module = {"name": "virtio", "language": "c", "built_in": False, "taint": "", "srcversion": None}
        good["core"] = [module, module]
        self.assertEqual(self.schema.errors(good), [])
        wrongs: tuple[Json, ...] = ({"schema": 2}, {"devices": [{}]}, {"more": 1}, {"core": [module]})
        for wrong in wrongs:
            self.assertNotEqual(self.schema.errors({**good, **wrong}), [], wrong)


class ForPeople(OnATree):
    def test_summary(self) -> None:
        rust_stack(self.root)
        status, out, _ = run(self.root)
        core, _, disk, console, rng = out.splitlines()
        self.assertEqual((status, core), (0, "core: virtio (Rust), virtio_ring (Rust)"))
        self.assertRegex(
            disk, r"^virtio0 +block +ready +2 +virtio_blk \(Rust\) +virtio_pci \(Rust\) at 0000:00:02\.0 +vda$"
        )
        self.assertRegex(console, r"virtio_console \(C\)")
        self.assertRegex(rng, r"^virtio10 ")

    def test_details(self) -> None:
        rust_stack(self.root)
        _, out, _ = run(self.root, "-v", "virtio0")
        self.assertIn("virtio0: block [vda]", out)
        self.assertIn("0x0f ready: ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK", out)
        self.assertRegex(out, r"(?s)features that are refused\n +13 VIRTIO_BLK_F_DISCARD\n.*99 no name")
        self.assertRegex(out, r"1 +req\.1 +256 +256 +packed +indirect,event_idx,broken +26 +1 +1 +0")
        self.assertNotIn("virtio2", out)

    def test_what_is_not_known_has_no_column(self) -> None:
        c_stack(self.root)
        _, out, _ = run(self.root, "-v")
        self.assertRegex(out, r"\n +NAME +LAYOUT +IRQ\n +req\.0 +split-in-order +25\n")
        self.assertIn(
            f"not known: index, size and counters of queues; queues without an interrupt: {lsvirtio.NO_QUEUES}", out
        )

    def test_wrong_requests(self) -> None:
        self.assertRegex(run(self.root)[2], "^lsvirtio: there is no sysfs at ")
        self.root.mkdir()
        status, out, err = run(self.root, "--json")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("the module virtio is not loaded", err)
        rust_stack(self.root)
        status, out, err = run(self.root, "virtio0", "virtio7")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, "lsvirtio: there is no device virtio7: virtio0, virtio2, virtio10.\n")

    def test_ranges(self) -> None:
        self.assertEqual(lsvirtio.ranges([5, 0, 1, 2]), "0-2,5")
        self.assertEqual(lsvirtio.cpus("0-2,5"), [0, 1, 2, 5])
        self.assertIsNone(lsvirtio.cpus("none"))


class Tables(unittest.TestCase):
    def features(self, name: str) -> dict[int, str]:
        found = {int(bit): text for bit, text in FEATURE.findall((SPEC / name).read_text())}
        self.assertTrue(found)
        return found

    def test_features(self) -> None:
        self.assertEqual(lsvirtio.COMMON, self.features("transport.rs"))
        for type_, name in ((1, "net.rs"), (2, "blk.rs"), (5, "balloon.rs")):
            self.assertEqual(lsvirtio.FEATURES[type_], self.features(name))

    def test_every_class_was_compared(self) -> None:
        with_features = {path.name for path in SPEC.glob("*.rs") if FEATURE.search(path.read_text())}
        self.assertEqual(with_features, {"transport.rs", "net.rs", "blk.rs", "balloon.rs"})

    def test_types(self) -> None:
        text = (SPEC / "device_type.rs").read_text()
        found = re.findall(r'^\s*\w+ = (\d+), "([\w-]+)";', text, re.MULTILINE)
        self.assertGreater(len(found), 20)
        self.assertEqual(lsvirtio.TYPES, {int(number): name for number, name in found})

    def test_status(self) -> None:
        text = (SPEC / "status.rs").read_text()
        values = re.findall(r"pub const (\w+): Self = Self\((\w+)\);", text)
        self.assertEqual(
            {name: bit for bit, name in lsvirtio.STATUS.items()} | {"RESET": 0},
            {name: int(value, 0) for name, value in values},
        )

    def test_columns_of_the_table_of_queues(self) -> None:
        text = (paths.TOP / "rust/virtio_ring/counters.rs").read_text()
        found = re.search(r'STATE_HEADER: &str = "(.*?)";', text, re.DOTALL)
        assert found
        self.assertEqual(" ".join(found[1].replace("\\\n", " ").split()), QUEUES)
        self.assertLessEqual(set(lsvirtio.COUNTERS), set(QUEUES.split()))

    def test_modules_that_can_be_rust(self) -> None:
        lines = (paths.TOP / "Kbuild").read_text()
        built = {
            name.replace("-", "_") for name in re.findall(r"[\w-]+(?=\.o)", "".join(re.findall(r"obj-m.*", lines)))
        }
        self.assertEqual(lsvirtio.IN_RUST, built)


class Completion(unittest.TestCase):
    def complete(self, *words: str) -> list[str]:
        script = '. "$0"; COMP_WORDS=(lsvirtio "$@"); COMP_CWORD=$#; _lsvirtio; printf "%s\\n" "${COMPREPLY[@]}"'
        command = ["bash", "-c", script, str(COMPLETION), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_options(self) -> None:
        options = [option for action in lsvirtio.parser()._actions for option in action.option_strings]
        self.assertEqual(sorted(self.complete("-")), sorted(options))
        self.assertEqual(self.complete("--j"), ["--json"])

    def test_manual_pages(self) -> None:
        for name, parser in (("lsvirtio", lsvirtio.parser()), ("virtio-report", virtio_report.parser())):
            options = {option for action in parser._actions for option in action.option_strings}
            page = (paths.TOP / f"Documentation/man/{name}.1").read_text()
            items = " ".join(re.findall(r"^\.It (Fl .*)", page, re.MULTILINE))
            self.assertEqual({f"-{option}" for option in re.findall(r"Fl (\S+)", items)}, options, name)

    def test_errors_are_in_the_manual_page(self) -> None:
        page = (paths.TOP / "Documentation/man/lsvirtio.1").read_text()
        source = (paths.TOP / "tools/lsvirtio/lsvirtio.py").read_text()
        problems = re.findall(r'Problem\(\s*f?"([^"]*)"', source)
        items = list(manual.items(page))
        self.assertEqual(len(problems), len(items))
        for item, explained in items:
            self.assertTrue(explained)
            # An expression may have braces and colons of its own.
            start = item.split("%s")[0]
            self.assertTrue(any(problem.startswith(start) for problem in problems), item)

    def test_devices(self) -> None:
        with tempfile.TemporaryDirectory(prefix="lsvirtio-") as directory:
            rust_stack(Path(directory))
            self.assertEqual(self.complete("--sysfs", directory, "virtio1"), ["virtio10"])
            self.assertEqual(len(self.complete("--sysfs", directory, "")), 3)
        self.assertEqual(self.complete("--sysfs", "/nowhere", "v"), [])
