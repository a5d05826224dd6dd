/work/main/benches/target/release/deps/instructions-b1314b7d65aee01c.d: src/bin/instructions.rs

/work/main/benches/target/release/deps/instructions-b1314b7d65aee01c: src/bin/instructions.rs

src/bin/instructions.rs:
