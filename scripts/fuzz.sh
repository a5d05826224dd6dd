#!/usr/bin/env bash
# scripts/fuzz.sh [SECONDS] [TARGET...]   fuzzes each target of fuzz/ for SECONDS (default 10)
# An input that fails is kept as fuzz/artifacts/TARGET-*; repeat it with: fuzz/target/HOST/release/TARGET FILE
# Needs nothing beyond cargo and a C++ compiler: these are the flags that cargo-fuzz sets, opened on stable. Without
# AddressSanitizer, which would double the build: the library forbids unsafe code and ./test kernels covers the kernels.
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

mkdir -p fuzz/artifacts
one() {
  mkdir -p "fuzz/corpus/$1" # what it finds, not committed; the seeds are
  if "fuzz/target/$host/release/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="fuzz/artifacts/$1-" "fuzz/corpus/$1" "fuzz/seeds/$1" >"fuzz/artifacts/$1.log" 2>&1; then
    echo "$1: $(grep '^Done' "fuzz/artifacts/$1.log")"
  else
    echo "$1: FAILED"
    tail -40 "fuzz/artifacts/$1.log"
    return 1
  fi
}
export -f one
export host seconds
# As many at a time as there are cores.
printf '%s\n' "$@" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c 'one "$1"' fuzz {}
