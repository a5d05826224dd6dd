//! Times of the kernels; see BENCHMARKS.md. `OCELLI_THREADS` sets the threads (default 1, whose times vary least),
//! `OCELLI_ISA` the instruction set.

use criterion::Criterion;
use ocelli_kernels::Cpu;
use std::time::Duration;

fn main() {
    let threads = std::env::var("OCELLI_THREADS").map_or(1, |n| n.parse().expect("OCELLI_THREADS is a number"));
    let cpu = Cpu::new(threads).unwrap_or_else(|error| panic!("{error}"));
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for case in ocelli_benches::all() {
        // Operands are taken for the cases that the filter lets through, and for one at a time.
        criterion.bench_function(&case.name, |bench| {
            let mut work = (case.prepare)(&cpu);
            bench.iter(|| work(&cpu));
        });
    }
    criterion.final_summary();
}
