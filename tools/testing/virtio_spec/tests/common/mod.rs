// SPDX-License-Identifier: GPL-2.0

//! What the property tests of this crate share.

use proptest::prelude::ProptestConfig;

/// At least `cases` cases; `PROPTEST_CASES` asks for more.
pub(crate) fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(cases),
        failure_persistence: None,
        ..default
    }
}
