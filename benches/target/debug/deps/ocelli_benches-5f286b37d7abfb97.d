/work/main/benches/target/debug/deps/ocelli_benches-5f286b37d7abfb97.d: src/lib.rs Cargo.toml

/work/main/benches/target/debug/deps/libocelli_benches-5f286b37d7abfb97.rmeta: src/lib.rs Cargo.toml

src/lib.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
