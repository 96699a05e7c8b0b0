# SPDX-License-Identifier: GPL-2.0
"""Reading callgrind's files."""

import unittest
from pathlib import Path

from bench import host

# Two programs' worth of names: `add` calls `malloc` of the C library, `bench_use` is the harness.
CALLGRIND = """# callgrind format
version: 1
positions: line
events: Ir

ob=(1) /somewhere/ring
fl=(1) ring.c
fn=(1) virtqueue_add
10 5
+2 7
cob=(2) /lib/libc.so
cfi=(2) malloc.c
cfn=(2) malloc
calls=3 100
12 900
* 1

ob=(2)
fl=(2)
fn=(2)
100 900

ob=(1)
fl=(1)
fn=(3) bench_use_split
20 50
fn=(1)
30 4
totals: 967
"""


class Callgrind(unittest.TestCase):
    def test_costs_of_callees_are_not_the_callers(self) -> None:
        found = host.exclusive(CALLGRIND.splitlines())
        self.assertEqual(found["/somewhere/ring", "virtqueue_add"], 17)
        self.assertEqual(found["/lib/libc.so", "malloc"], 900)

    def test_only_the_ring_is_kept(self) -> None:
        kept = host.of_the_ring(host.exclusive(CALLGRIND.splitlines()), Path("/elsewhere/ring"))
        self.assertEqual(kept, {"virtqueue_add": 17})


if __name__ == "__main__":
    unittest.main()
