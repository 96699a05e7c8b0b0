# SPDX-License-Identifier: GPL-2.0
"""What is found in a source, what in a page, and what is said if they differ."""

import shutil
import tempfile
import unittest
from pathlib import Path

from guest import paths

from check import manual

SOURCE = r"""
// dev_err!(dev, "in a comment\n");
fn f() {
    dev_err!(dev.as_device(), "queue {} is {}\n", a, b);
    kernel::pr_warn_once!("one line \
        and another\n");
    dev_dbg!(dev, "for developers\n");
    shared.complain(Topic::A, c"too late");
    extack.say(c"virtio_x: no program");
    let name = c"input";
}

#[kunit_tests(virtio_x)]
mod tests {
    fn g() {
        pr_info!("in a test\n");
    }
}
"""
SHOWN = """
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            A => write!(f, "{} is {}", a, b),
            B => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("else")
    }
}
"""
PAGE = """
.It outside %s
.Bl -diag
.It queue %d is %d
Do something.
.It one
.It two
Both.
.It three
.El
"""


class Source(unittest.TestCase):
    def templates(self, text: str, name: str = "drivers/x.rs") -> list[str]:
        with tempfile.TemporaryDirectory() as top:
            (Path(top) / name).parent.mkdir(parents=True)
            (Path(top) / name).write_text(text)
            for other in ("rust/virtio_spec/notes.rs", "rust/virtqueue/error.rs"):
                (Path(top) / other).parent.mkdir(parents=True)
                (Path(top) / other).write_text(SHOWN.replace("Note", "RingError") if "error" in other else SHOWN)
            return list(manual.templates(Path(top), name))

    def test_messages(self) -> None:
        expected = ["queue {} is {}", "one line and another", "too late", "virtio_x: no program"]
        self.assertEqual(self.templates(SOURCE), expected)

    def test_values_that_are_printed_whole(self) -> None:
        text = 'fn f() { dev_warn!(dev, "{}\\n", note) }'
        self.assertEqual(self.templates(text, "drivers/net/virtio_net/interface.rs"), ["{} is {}", "nothing"])
        with self.assertRaisesRegex(ValueError, "nobody knows"):
            self.templates(text)
        with self.assertRaises(ValueError):
            self.templates(text.replace("{}", "{note}"))

    def test_values_in_a_message(self) -> None:
        text = 'fn f() { dev_err!(dev, "virtqueue {}: {}: broken\\n", n, error) }'
        expected = ["virtqueue {}: {} is {}: broken", "virtqueue {}: nothing: broken"]
        self.assertEqual(self.templates(text, "rust/virtio_ring/vring.rs"), expected)

    def test_a_display_that_is_gone(self) -> None:
        with self.assertRaises(ValueError):
            manual.displayed(SHOWN, "Gone")


class Page(unittest.TestCase):
    def test_items(self) -> None:
        expected = [("queue %d is %d", True), ("one", True), ("two", True), ("three", False)]
        self.assertEqual(list(manual.items(PAGE)), expected)

    def test_differences(self) -> None:
        found = list(manual.diagnostics({"queue {} is {}", "one", "four {}"}, PAGE))
        expected = ["no source prints: two", "no source prints: three", "is missing: four {}"]
        self.assertEqual(found, expected)

    def test_the_message_that_says_most_is_meant(self) -> None:
        page = ".Bl -diag\n.It [%s] new size: %s\nx\n.El\n"
        wanted = {"[{}] {}", "[{}] new size: {}"}
        self.assertEqual(list(manual.diagnostics(wanted, page)), ["is missing: [{}] {}"])


class Tree(unittest.TestCase):
    """A copy of the tree, in which something is changed."""

    def setUp(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="manual-"))
        self.addCleanup(shutil.rmtree, self.top)
        for name in ("drivers", "rust", "Documentation/man"):
            shutil.copytree(paths.TOP / name, self.top / name)

    def change(self, name: str, old: str, new: str) -> list[str]:
        path = self.top / name
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1))
        return manual.problems(self.top)

    def test_nothing_is_changed(self) -> None:
        self.assertEqual(manual.problems(self.top), [])

    def test_a_message(self) -> None:
        found = self.change("rust/virtio/recovery.rs", '"recovered\\n"', '"it is well\\n"')
        page = "Documentation/man/virtio.4: "
        self.assertEqual(found, [f"{page}no source prints: recovered", f"{page}is missing: it is well"])

    def test_a_message_of_the_rings(self) -> None:
        found = self.change("rust/virtqueue/error.rs", "out of range", "absurd")
        self.assertEqual(len(found), 2)

    def test_a_parameter(self) -> None:
        found = self.change(
            "drivers/block/virtio_blk/param.c", "module_param_named(poll_queues", "module_param_named(polled"
        )
        self.assertEqual(len(found), 2)

    def test_a_feature(self) -> None:
        found = self.change("drivers/block/virtio_blk.rs", ".with::<blk::Ro>()", "")
        self.assertEqual(
            found, ["Documentation/man/virtio_blk.4: feature VIRTIO_BLK_F_RO: the driver does not have it"]
        )

    def test_a_module_without_a_page(self) -> None:
        (self.top / "drivers/gpu.rs").write_text('fn f() { pr_info!("hello\\n") }\n')
        self.assertEqual(manual.problems(self.top), ["drivers/gpu.rs: its messages belong to 0 pages"])
