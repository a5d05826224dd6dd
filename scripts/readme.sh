#!/usr/bin/env bash
# Does what a newcomer does, in an empty folder: ./run, the commands that it prints, and every ```sh block of README.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$root/samples" "$root/recipes" .
printf '#!/usr/bin/env bash\nexec "%s/run" "$@"\n' "$root" >run
chmod +x run
export OCELLI_COMMAND=./run

./run | tee first.txt
top1=$(./run val latest --json | tee val.json | sed -n 's/.*"top1": *\([0-9.]*\).*/\1/p')
echo "held-out accuracy: $top1"
awk -v top1="$top1" 'BEGIN { exit !(top1 >= 0.98) }' || { echo "less than 0.98"; exit 1; }

grep -oE '^ +\./run .*' first.txt >printed.txt || { echo "./run printed no command to try next"; exit 1; }
while read -r command; do
  printf '\n$ %s\n' "$command"
  bash -euo pipefail -c "$command" </dev/null
done <printed.txt

awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on && NF' "$root/README.md" >blocks.sh
[ -s blocks.sh ] || { echo "README.md has no sh block"; exit 1; }
while read -r command; do
  printf '\n$ %s\n' "$command"
  bash -euo pipefail -c "$command" </dev/null
done <blocks.sh
