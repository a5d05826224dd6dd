#!/usr/bin/env bash
# scripts/fuzz.sh [SECONDS] [TARGET...]   fuzzes each target of fuzz/ for SECONDS (default 10)
# An input that fails is kept as fuzz/artifacts/TARGET-*; repeat it with: fuzz/target/HOST/release/TARGET FILE
# Needs nothing beyond cargo and a C++ compiler: these are the flags that cargo-fuzz sets, opened on stable. Without
# AddressSanitizer, which would double the build: the library forbids unsafe code and ./test memory covers the kernels.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v c++ >/dev/null || { echo "fuzzing needs a C++ compiler (c++) for libFuzzer"; exit 77; }
seconds=${1:-10}
shift || true
host=$(rustc -vV | sed -n 's/^host: //p')
[ $# -gt 0 ] || set -- $(cd fuzz/targets && ls | sed 's/\.rs$//')

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$(echo $coverage) --cfg fuzzing" \
  cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" --target-dir fuzz/target

failed=0
mkdir -p fuzz/artifacts
for target in "$@"; do
  mkdir -p "fuzz/corpus/$target" # what it finds, not committed; the seeds are
  if "fuzz/target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="fuzz/artifacts/$target-" "fuzz/corpus/$target" "fuzz/seeds/$target" >"fuzz/artifacts/$target.log" 2>&1; then
    echo "$target: $(grep '^Done' "fuzz/artifacts/$target.log")"
  else
    failed=1
    echo "$target: FAILED"
    tail -40 "fuzz/artifacts/$target.log"
  fi
done
exit $failed
