// SPDX-License-Identifier: GPL-2.0

//! `ring split|packed direct|indirect BATCH ROUNDS`, as ring.c beside it.

use virtqueue_bench::Bench;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [layout, tables, batch, rounds] = words.as_slice() else {
        eprintln!("usage: ring split|packed direct|indirect BATCH ROUNDS");
        std::process::exit(2);
    };
    let numbers = (batch.parse::<u16>(), rounds.parse::<u32>());
    let (Ok(batch), Ok(rounds)) = numbers else {
        eprintln!("ring: BATCH and ROUNDS are numbers");
        std::process::exit(2);
    };
    let mut bench = Bench::new(layout == "packed", tables == "indirect");
    for _ in 0..rounds {
        bench.round(batch);
    }
}
