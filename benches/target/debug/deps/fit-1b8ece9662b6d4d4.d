/work/main/benches/target/debug/deps/fit-1b8ece9662b6d4d4.d: src/bin/fit.rs Cargo.toml

/work/main/benches/target/debug/deps/libfit-1b8ece9662b6d4d4.rmeta: src/bin/fit.rs Cargo.toml

src/bin/fit.rs:
Cargo.toml:

# env-dep:CARGO_MANIFEST_DIR=/work/main/benches
# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
