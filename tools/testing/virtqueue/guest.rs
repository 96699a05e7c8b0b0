// SPDX-License-Identifier: GPL-2.0

//! Guest memory: bytes with addresses that both sides use.

use std::cell::{Cell, RefCell};

/// Addresses start here, so that address 0 is always wrong.
const BASE: u64 = 0x10_0000;

/// A block of memory and a bump allocator in it. Access outside panics.
pub struct Guest {
    bytes: RefCell<Vec<u8>>,
    next: Cell<u64>,
}

impl Guest {
    /// Makes `size` bytes of zeroes.
    pub fn new(size: usize) -> Self {
        Self {
            bytes: RefCell::new(vec![0; size]),
            next: Cell::new(BASE),
        }
    }

    /// Allocates `len` bytes and gives their address.
    pub fn alloc(&self, len: usize, align: u64) -> u64 {
        let at = self.next.get().next_multiple_of(align);
        self.next.set(at + len as u64);
        assert!((self.next.get() - BASE) as usize <= self.bytes.borrow().len());
        at
    }

    /// Copies bytes out.
    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let at = addr.checked_sub(BASE).expect("address below memory") as usize;
        self.bytes.borrow()[at..at + len].to_vec()
    }

    /// Copies bytes in.
    pub fn write(&self, addr: u64, data: &[u8]) {
        let at = addr.checked_sub(BASE).expect("address below memory") as usize;
        self.bytes.borrow_mut()[at..at + data.len()].copy_from_slice(data);
    }

    fn array<const N: usize>(&self, addr: u64) -> [u8; N] {
        let at = addr.checked_sub(BASE).expect("address below memory") as usize;
        self.bytes.borrow()[at..at + N].try_into().unwrap()
    }

    /// Reads a little-endian `u16`.
    pub fn u16(&self, addr: u64) -> u16 {
        assert!(addr.is_multiple_of(2));
        u16::from_le_bytes(self.array(addr))
    }

    /// Reads a little-endian `u32`.
    pub fn u32(&self, addr: u64) -> u32 {
        assert!(addr.is_multiple_of(4));
        u32::from_le_bytes(self.array(addr))
    }

    /// Reads a little-endian `u64`.
    pub fn u64(&self, addr: u64) -> u64 {
        assert!(addr.is_multiple_of(8));
        u64::from_le_bytes(self.array(addr))
    }

    /// Writes a little-endian `u16`.
    pub fn set_u16(&self, addr: u64, value: u16) {
        self.write(addr, &value.to_le_bytes());
    }

    /// Writes a little-endian `u32`.
    pub fn set_u32(&self, addr: u64, value: u32) {
        self.write(addr, &value.to_le_bytes());
    }

    /// Writes a little-endian `u64`.
    pub fn set_u64(&self, addr: u64, value: u64) {
        self.write(addr, &value.to_le_bytes());
    }
}
