// SPDX-License-Identifier: GPL-2.0

//! Values that a device wrote, which are not to be used before they are validated.

use core::fmt;
use core::hint::black_box;

/// A private copy of a value that a device wrote.
///
/// The device may be hostile, so the value can be anything that its type can hold. It cannot be
/// compared, computed with or dereferenced; each way out of the wrapper names the check that it
/// makes.
///
/// It holds a copy: a check that passed cannot be undone by a device that writes again.
///
/// ```
/// use virtio_spec::Untrusted;
/// let queues = Untrusted::new(70_u16);
/// assert_eq!(queues.validate(|n| (1..=64).contains(&n).then_some(n)), None);
/// assert_eq!(queues.min(64), 64);
/// ```
///
/// It does not compare with a plain value:
///
/// ```compile_fail,E0369
/// use virtio_spec::Untrusted;
/// let _ = Untrusted::new(1_u8) < Untrusted::new(2_u8);
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
#[must_use = "a device value that nobody validates need not be read"]
pub struct Untrusted<T>(T);

impl<T: Copy> Untrusted<T> {
    /// Wraps a value that was just copied out of memory or a register that a device controls.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Passes the value to `check`, which returns what it accepts, in the type that proves it.
    #[inline]
    pub fn validate<U>(self, check: impl FnOnce(T) -> Option<U>) -> Option<U> {
        check(self.0)
    }

    /// Converts the value without believing it, for instance from its wire form.
    #[inline]
    pub fn map<U: Copy>(self, convert: impl FnOnce(T) -> U) -> Untrusted<U> {
        Untrusted(convert(self.0))
    }

    /// The raw value, for a message or a trace and for nothing else.
    #[inline]
    pub const fn for_log(self) -> T {
        self.0
    }
}

impl<T: Copy + Ord> Untrusted<T> {
    /// The value, but not more than `bound`.
    #[inline]
    pub fn min(self, bound: T) -> T {
        self.0.min(bound)
    }

    /// The value moved into `low..=high`; a `low` above `high` gives `high`.
    #[inline]
    pub fn clamp(self, low: T, high: T) -> T {
        self.0.max(low).min(high)
    }
}

impl<T: Copy + Into<u64>> Untrusted<T> {
    /// The value as an index into something of `len` elements, or `None` if it is out of range.
    ///
    /// The comparison is made in 64 bits, before the value is narrowed, and the result is masked
    /// without a branch: a CPU that mispredicts the comparison still cannot load out of bounds
    /// (`array_index_nospec()` in C).
    ///
    /// ```
    /// use virtio_spec::Untrusted;
    /// assert_eq!(Untrusted::new(7_u32).index(8), Some(7));
    /// assert_eq!(Untrusted::new(8_u32).index(8), None);
    /// assert_eq!(Untrusted::new(0x1_0000_0000_u64).index(8), None);
    /// ```
    #[inline]
    pub fn index(self, len: usize) -> Option<usize> {
        let wide: u64 = self.0.into();
        if wide >= len as u64 {
            return None;
        }
        let index = wide as usize;
        Some(index & mask_below(index, len))
    }

    /// The value unless it is zero.
    #[inline]
    pub fn nonzero(self) -> Option<T> {
        let wide: u64 = self.0.into();
        (wide != 0).then_some(self.0)
    }

    /// The device's idea of a truth value: anything but zero is true.
    #[inline]
    pub fn is_nonzero(self) -> bool {
        let wide: u64 = self.0.into();
        wide != 0
    }
}

impl Untrusted<u16> {
    /// Converts a little-endian wire value to the CPU's order, still untrusted.
    #[inline]
    pub const fn map_le(self) -> Self {
        Self(u16::from_le(self.0))
    }
}

impl Untrusted<u32> {
    /// Converts a little-endian wire value to the CPU's order, still untrusted.
    #[inline]
    pub const fn map_le(self) -> Self {
        Self(u32::from_le(self.0))
    }
}

impl Untrusted<u64> {
    /// Converts a little-endian wire value to the CPU's order, still untrusted.
    #[inline]
    pub const fn map_le(self) -> Self {
        Self(u64::from_le(self.0))
    }
}

/// All ones if `index < len`, else zero; both must be at most `isize::MAX`.
///
/// `black_box` keeps the compiler from concluding, from the comparison before, that the mask is
/// always all ones.
#[inline]
fn mask_below(index: usize, len: usize) -> usize {
    let difference = black_box(index).wrapping_sub(len) as isize;
    (difference >> (isize::BITS - 1)) as usize
}

impl<T: fmt::Debug> fmt::Debug for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "untrusted {:?}", self.0)
    }
}
