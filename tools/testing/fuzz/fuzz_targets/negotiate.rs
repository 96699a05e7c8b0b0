// SPDX-License-Identifier: GPL-2.0

//! Any offered and wanted features: what is agreed on is in both and needs nothing that is not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virtio_spec::negotiate::{first_unmet, resolve, Policy};
use virtio_spec::{balloon, blk, net, transport, Features, Requirement};

fn check(tables: &[&[Requirement]], offered: Features, wanted: Features, accepted: Features) {
    let policy = Policy {
        accepted,
        requirements: tables,
    };
    let agreed = resolve(offered, wanted, &policy);
    assert!(agreed.is_subset_of(offered) && agreed.is_subset_of(wanted));
    assert!(agreed.is_subset_of(accepted));
    assert!(first_unmet(agreed, tables).is_none());
    assert_eq!(resolve(agreed, agreed, &policy), agreed);
    let more = Features::ALL;
    assert!(agreed.is_subset_of(resolve(more, wanted, &policy)));
    assert!(agreed.is_subset_of(resolve(offered, more, &policy)));
}

fuzz_target!(|input: [u128; 3]| {
    let [offered, wanted, accepted] = input.map(Features::from_bits);
    for class in [net::REQUIREMENTS, blk::REQUIREMENTS, balloon::REQUIREMENTS] {
        check(&[transport::REQUIREMENTS, class], offered, wanted, accepted);
    }
});
