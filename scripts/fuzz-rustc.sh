#!/bin/sh
# A rustc wrapper for scripts/fuzz.sh: libFuzzer's coverage only in the crates that read foreign bytes. Instrumenting the
# rest (colour management, resizing) would triple the build and tell the fuzzer nothing.
name= previous=
for argument in "$@"; do
  [ "$previous" = --crate-name ] && name=$argument
  previous=$argument
done
case " $name $OCELLI_FUZZ_TARGETS " in
  " ocelli "* | " csv"* | " png "* | " zune_"* | " gif "* | " image"* | " safetensors "* | " toml"* | " winnow "* | " serde_json "*)
    instrument=yes ;;
  *" $name "*" $name "*) instrument=yes ;; # a fuzz target
  *) instrument= ;;
esac
[ -z "$instrument" ] || set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-trace-compares
exec "$@"
