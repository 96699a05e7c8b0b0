# SPDX-License-Identifier: GPL-2.0
"""The command channel: output and exit status come apart wherever the channel splits its bytes."""

import unittest

from guest.machine import Trailer

NONCE = "0123456789abcdef"


def split(data: bytes, size: int) -> tuple[bytes, int | None]:
    trailer = Trailer(NONCE)
    output = b"".join(trailer.feed(data[at : at + size]) for at in range(0, len(data), size))
    return output + trailer.rest(), trailer.status


class Channel(unittest.TestCase):
    def test_every_split_and_status(self) -> None:
        payload = b"line\n\0\0 and a \0" + NONCE[:7].encode() + b" lookalike, no newline at the end"
        for status in (0, 1, 124, 125, 255):
            data = payload + b"\0" + NONCE.encode() + b" %d\0" % status
            for size in (1, 2, 3, 7, 64, 4096):
                with self.subTest(status=status, size=size):
                    self.assertEqual(split(data, size), (payload, status))

    def test_no_trailer(self) -> None:
        self.assertEqual(split(b"half a li\0", 3), (b"half a li\0", None))

    def test_trailer_of_another_run(self) -> None:
        other = b"\0fedcba9876543210 0\0"
        self.assertEqual(split(other, 5), (other, None))


if __name__ == "__main__":
    unittest.main()
