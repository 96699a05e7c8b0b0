// SPDX-License-Identifier: GPL-2.0

//! Names with letters for numbers: `vda` to `vdz`, `vdaa` and on.
//!
//! C source: `virtblk_name_format` in `drivers/block/virtio_blk.c`.

use kernel::macros::kunit_tests;

/// Writes `prefix` and the letters of `index` to `room`, and returns how many bytes that is.
///
/// `None` if they do not fit.
pub(crate) fn write(prefix: &[u8], index: u32, room: &mut [u8]) -> Option<usize> {
    // 26^7 is more than 2^32.
    let mut letters = [0; 7];
    let mut first = letters.len();
    // A number with digits from 1 to 26, the last one first.
    let mut rest = u64::from(index) + 1;
    while rest != 0 {
        first = first.checked_sub(1)?;
        rest -= 1;
        *letters.get_mut(first)? = b'a' + (rest % 26) as u8;
        rest /= 26;
    }
    let letters = letters.get(first..)?;
    let len = prefix.len() + letters.len();
    let (start, end) = room.get_mut(..len)?.split_at_mut(prefix.len());
    start.copy_from_slice(prefix);
    end.copy_from_slice(letters);
    Some(len)
}

#[kunit_tests(virtio_block_mq_name)]
mod tests {
    use super::*;

    #[test]
    fn letters_count_as_those_of_c() {
        for (index, name) in [
            (0, &b"vda"[..]),
            (25, b"vdz"),
            (26, b"vdaa"),
            (701, b"vdzz"),
            (702, b"vdaaa"),
            (18277, b"vdzzz"),
            (18278, b"vdaaaa"),
        ] {
            let mut room = [0; 8];
            let len = write(b"vd", index, &mut room);
            assert_eq!(len, Some(name.len()));
            assert!(room[..name.len()] == *name);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(write(b"vd", 26, &mut [0; 3]), None);
        assert_eq!(write(b"vd", 0, &mut [0; 3]), Some(3));
        assert_eq!(write(b"vd", u32::MAX, &mut [0; 16]).is_some(), true);
    }
}
