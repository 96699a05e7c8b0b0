// SPDX-License-Identifier: GPL-2.0

//! Times of a batch, by criterion.

use criterion::{criterion_group, criterion_main, Criterion};
use virtqueue_bench::Bench;

fn ring(criterion: &mut Criterion) {
    for (layout, packed) in [("split", false), ("packed", true)] {
        for (tables, indirect) in [("direct", false), ("indirect", true)] {
            for batch in [1, 32] {
                let mut bench = Bench::new(packed, indirect);
                let name = format!("{layout}-{tables}-{batch}");
                criterion.bench_function(&name, |b| b.iter(|| bench.round(batch)));
            }
        }
    }
}

criterion_group!(benches, ring);
criterion_main!(benches);
