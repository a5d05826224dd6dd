/work/main/benches/target/release/deps/fit-4ac543d683cc82bd.d: src/bin/fit.rs

/work/main/benches/target/release/deps/fit-4ac543d683cc82bd: src/bin/fit.rs

src/bin/fit.rs:

# env-dep:CARGO_MANIFEST_DIR=/work/main/benches
