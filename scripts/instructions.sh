#!/usr/bin/env bash
# scripts/instructions.sh               counts the instructions of fixed kernels, compares them with benches/instructions.txt
#                                       and fails where one runs more than 10 % more than is written there
# scripts/instructions.sh --write NOTE  writes the counts that differ by more than 1 % there, with NOTE on why they changed
# valgrind counts, so a busy machine changes nothing. It knows no AVX-512: these are the AVX2 kernels, on one thread. What
# is counted is a call: 4 calls less none, divided by 4, so that start-up and operands are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
file=benches/instructions.txt
note=""
case ${1:-} in
  "") ;;
  --write) note=${2:?"--write needs a note on why the counts changed"} ;;
  *) sed -n '2,4s/^# //p' "$0" >&2; exit 2 ;;
esac
command -v valgrind >/dev/null || { echo "valgrind is missing, which counts the instructions (Debian, Ubuntu: apt-get install valgrind)"; exit 77; }
# With what ./run builds, so that the kernels are compiled once for both.
cargo build --release --locked --package ocelli-cli --package ocelli-benches
program=${CARGO_TARGET_DIR:-target}/release/instructions

# Instructions that a program run with the kernel $1, $2 times, executes.
run() {
  OCELLI_ISA=avx2 valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
    sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}
if ! said=$(OCELLI_ISA=avx2 "$program" max_pool 0 2>&1); then
  echo "$said"
  [[ $said != *"this processor does not have it"* ]] || exit 77
  exit 1
fi

failed=0
written=$(sed -n '/^#/p' "$file")
for kernel in $("$program"); do
  four=$(run "$kernel" 4) none=$(run "$kernel" 0)
  [ -n "$four" ] && [ -n "$none" ] || { echo "$kernel: valgrind printed no count"; exit 1; }
  count=$(((four - none) / 4))
  line=$(grep "^$kernel " "$file" || true)
  before=$(echo "$line" | awk '{ print $2 + 0 }')
  change="not in $file"
  [ "$before" -eq 0 ] ||
    change=$(awk -v now="$count" -v before="$before" 'BEGIN { printf "%+.1f %% against %d", (now / before - 1) * 100, before }')
  printf '%-24s %12d instructions, %s\n' "$kernel" "$count" "$change"
  if [ $((count * 10)) -gt $((before * 11)) ]; then failed=1; fi
  if [ $(((count - before) * 100)) -gt "$before" ] || [ $(((before - count) * 100)) -gt "$before" ]; then
    line=$(printf '%-24s %12d  %s' "$kernel" "$count" "$note")
  fi
  written+=$'\n'$line
done

if [ -n "$note" ]; then
  printf '%s\n' "$written" >"$file"
  echo "Written to $file."
elif [ $failed -ne 0 ]; then
  echo "A kernel runs more than 10 % more instructions than $file says. If that is meant:"
  echo "  scripts/instructions.sh --write \"why it is worth it\""
  exit 1
fi
