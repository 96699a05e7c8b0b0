// SPDX-License-Identifier: GPL-2.0

//! What is said of a configuration that cannot be meant as it stands.
//!
//! A device may say anything.  What cannot be meant, and without which the device works, is left
//! out or cut down, and becomes a [`Note`]; what the device cannot work without is an [`Absurd`].

use core::fmt;

/// A field that says what cannot be used, and what is used instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// The field, as in the specification.
    pub field: &'static str,
    /// What it says.
    pub value: u64,
    /// What is used; `None` if what the field describes is not used at all.
    pub used: Option<u64>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.used {
            Some(used) => write!(f, "{} is {}: {} is used", self.field, self.value, used),
            None => write!(f, "{} is {}: not used", self.field, self.value),
        }
    }
}

/// Notes of one configuration; there is one for a field at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes {
    notes: [Option<Note>; Notes::MAX],
}

impl Notes {
    const MAX: usize = 24;

    fn push(&mut self, note: Note) {
        if let Some(free) = self.notes.iter_mut().find(|note| note.is_none()) {
            *free = Some(note);
        }
    }

    /// `field` says `value`, `used` is taken instead.
    pub(crate) fn instead(
        &mut self,
        field: &'static str,
        value: impl Into<u64>,
        used: impl Into<u64>,
    ) {
        self.push(Note {
            field,
            value: value.into(),
            used: Some(used.into()),
        });
    }

    /// `field` says `value`, so that what it describes is not used.
    pub(crate) fn without(&mut self, field: &'static str, value: impl Into<u64>) {
        self.push(Note {
            field,
            value: value.into(),
            used: None,
        });
    }

    /// The smaller of `value` and `most`; a note if that is `most`.
    pub(crate) fn at_most(&mut self, field: &'static str, value: u64, most: u64) -> u64 {
        if value > most {
            self.instead(field, value, most);
        }
        value.min(most)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().flatten()
    }
}

/// A field without whose sense the device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absurd {
    /// The field, as in the specification.
    pub field: &'static str,
    /// What it says.
    pub value: u64,
    /// What it should be.
    pub expected: &'static str,
}

impl fmt::Display for Absurd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, not {}", self.field, self.value, self.expected)
    }
}
