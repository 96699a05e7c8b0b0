# SPDX-License-Identifier: GPL-2.0
"""The KTAP reader: a document that is broken in any way must not pass."""

import unittest

from check.ktap import FAIL, PASS, SKIP, parse


def states(text: str) -> list[tuple[str, str]]:
    return [(case.name, case.state) for case in parse(text).cases]


class Documents(unittest.TestCase):
    def test_flat(self) -> None:
        text = "TAP version 13\n1..2\nok 1 first\nnot ok 2 second\n"
        self.assertEqual(states(text), [("first", PASS), ("second", FAIL)])

    def test_directives(self) -> None:
        text = "KTAP version 1\n1..3\nok 1 a # SKIP no device\nnot ok 2 b # XFAIL known\nok 3 - c\n"
        self.assertEqual(states(text), [("a", SKIP), ("b", PASS), ("c", PASS)])

    def test_kunit_in_a_console(self) -> None:
        text = (
            "[    1.000000] KTAP version 1\r\n"
            "[    1.000001] 1..1\r\n"
            "[    1.000002]     KTAP version 1\r\n"
            "[    1.000003]     # Subtest: virtio_ring\r\n"
            "[    1.000004]     1..2\r\n"
            "[    1.000005] random: something else\r\n"
            "[    1.000006]     ok 1 one\r\n"
            "[    1.000007][  T1]     ok 2 two\r\n"
            "[    1.000008] # virtio_ring: pass:2 fail:0 skip:0 total:2\r\n"
            "[    1.000009] ok 1 virtio_ring\r\n"
        )
        self.assertEqual(states(text), [("virtio_ring.one", PASS), ("virtio_ring.two", PASS)])

    def test_several_documents(self) -> None:
        one = "KTAP version 1\n1..1\nok 1 a\n"
        self.assertEqual(parse(one + one).documents, 2)
        self.assertEqual(len(parse(one + one).cases), 2)

    def test_no_document(self) -> None:
        self.assertEqual(states("ok 1 looks like it\n"), [])


class Broken(unittest.TestCase):
    def assert_fails(self, text: str) -> None:
        self.assertIn(FAIL, [state for _, state in states(text)])

    def test_plan_not_kept(self) -> None:
        self.assert_fails("KTAP version 1\n1..2\nok 1 a\n")

    def test_no_plan(self) -> None:
        self.assert_fails("KTAP version 1\nok 1 a\n")

    def test_inner_plan_not_kept(self) -> None:
        self.assert_fails("KTAP version 1\n1..1\n    KTAP version 1\n    1..2\n    ok 1 a\nok 1 suite\n")

    def test_ends_within_a_suite(self) -> None:
        self.assert_fails("KTAP version 1\n1..1\n    KTAP version 1\n    1..2\n    ok 1 a\n")

    def test_parent_fails_alone(self) -> None:
        self.assert_fails("KTAP version 1\n1..1\n    KTAP version 1\n    1..1\n    ok 1 a\nnot ok 1 suite\n")

    def test_bail_out(self) -> None:
        self.assert_fails("TAP version 13\n1..1\nok 1 a\nBail out! no device\n")


if __name__ == "__main__":
    unittest.main()
