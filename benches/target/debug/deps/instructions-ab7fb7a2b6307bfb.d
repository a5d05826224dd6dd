/work/main/benches/target/debug/deps/instructions-ab7fb7a2b6307bfb.d: src/bin/instructions.rs Cargo.toml

/work/main/benches/target/debug/deps/libinstructions-ab7fb7a2b6307bfb.rmeta: src/bin/instructions.rs Cargo.toml

src/bin/instructions.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
