// SPDX-License-Identifier: GPL-2.0

//! What a scenario file says to the device; the rest of the file is for the rig.

use crate::zones::Layout;
use serde::Deserialize;
use std::{
    error::Error,
    fs,
    path::Path, //
};

/// The kind of device.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Rng,
    Blk,
    Net,
}

/// The part of a scenario file that the device reads.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    pub device: Kind,
    #[serde(default)]
    pub features: Features,
    #[serde(default)]
    pub config: Vec<ConfigBytes>,
    #[serde(default, rename = "lie")]
    pub lies: Vec<Lie>,
    /// The disk has zones.
    pub zones: Option<Layout>,
    /// The disk tells its lifetime: the three numbers of `struct virtio_blk_lifetime`.
    pub lifetime: Option<[u16; 3]>,
    /// The disk discards, and writes zeroes: so many ranges in a request.
    pub ranges: Option<u32>,
}

/// Feature bits that differ from those of an honest device.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    #[serde(default)]
    pub set: Vec<u8>,
    #[serde(default)]
    pub clear: Vec<u8>,
}

/// Bytes of the device configuration, or of an answer, that differ.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigBytes {
    pub at: usize,
    /// Hexadecimal digits.
    pub bytes: String,
}

/// An id in a used entry: a number, or one that depends on what the device has seen.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Id {
    Number(u32),
    Named(NamedId),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedId {
    /// The one that was given back last.
    Stale,
    /// The second descriptor of the chain.
    Middle,
    /// One that no driver of this queue has used so far: the last of the table.
    Free,
    /// Its own, in the low half of a number that no descriptor has.
    Wide,
}

/// One lie: what is done to some requests instead of completing them honestly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lie {
    /// The queue whose requests it is about.
    #[serde(default)]
    pub queue: usize,
    /// The first request, counted from 1 over the life of the backend.
    #[serde(default = "one")]
    pub from: u64,
    /// How many requests; 0: all that follow.
    #[serde(default = "one")]
    pub times: u64,
    /// Only block requests of this type, and only they are counted.
    pub kind: Option<u32>,
    /// Bytes of what a block request reads that differ; the status is not among them.
    #[serde(default)]
    pub reply: Vec<ConfigBytes>,
    /// Id of the used entry.
    pub id: Option<Id>,
    /// Length of the used entry.
    pub len: Option<u32>,
    /// Bytes that are really written, at most.
    pub write: Option<u32>,
    /// Added to `used.idx` beyond what is right (split).
    pub index: Option<i32>,
    /// Descriptors after this one that are marked used, too (packed).
    pub ahead: Option<u16>,
    /// How often the used entry is written again.
    #[serde(default)]
    pub repeat: u16,
    /// The request is never completed.
    #[serde(default)]
    pub silent: bool,
    /// Requests are gathered until there are so many, and completed last one first.
    pub reverse: Option<usize>,
    /// Descriptor fields that are overwritten before the completion.
    #[serde(default)]
    pub descriptors: Vec<Rewrite>,
    /// All entries of the available ring are overwritten with ones (split).
    #[serde(default)]
    pub avail: bool,
    /// The status byte of a block request; none is written if it is above 255.
    pub status: Option<u16>,
    /// Bytes (hexadecimal digits) over the start of what is written: a network header.
    pub header: Option<String>,
    /// Completed without an interrupt.
    #[serde(default)]
    pub quiet: bool,
    /// Interrupts besides the one that is due.
    #[serde(default)]
    pub interrupts: u32,
    /// Milliseconds before the completion.
    #[serde(default)]
    pub delay: u64,
    /// The backend ends instead of completing.
    #[serde(default)]
    pub exit: bool,
}

/// What is written over each descriptor of the chain (split) or of the whole ring.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Every descriptor of the table, not only those of the chain.
    #[serde(default)]
    pub all: bool,
    #[serde(default)]
    pub set_flags: u16,
    #[serde(default)]
    pub clear_flags: u16,
    pub next: Option<u16>,
    /// `next` of each descriptor is the descriptor itself.
    #[serde(default)]
    pub next_self: bool,
    pub addr: Option<u64>,
    pub len: Option<u32>,
}

fn one() -> u64 {
    1
}

impl Lie {
    /// Whether it is about request `number` of `queue`, which is of type `kind`.
    pub fn is_about(&self, queue: usize, number: u64, kind: Option<u32>) -> bool {
        self.queue == queue
            && (self.kind.is_none() || self.kind == kind)
            && number >= self.from
            && (self.times == 0 || number - self.from < self.times)
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or says what the device cannot do.
    pub fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(toml::from_str(&fs::read_to_string(path)?)?)
    }
}

/// Bytes of hexadecimal digits; blanks are left out.
///
/// # Errors
///
/// An odd number of digits, or something else than digits.
pub fn hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{text}: an odd number of digits").into());
    }
    digits
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}
