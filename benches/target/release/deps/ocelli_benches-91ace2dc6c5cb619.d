/work/main/benches/target/release/deps/ocelli_benches-91ace2dc6c5cb619.d: src/lib.rs

/work/main/benches/target/release/deps/libocelli_benches-91ace2dc6c5cb619.rlib: src/lib.rs

/work/main/benches/target/release/deps/libocelli_benches-91ace2dc6c5cb619.rmeta: src/lib.rs

src/lib.rs:
