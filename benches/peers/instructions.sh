#!/usr/bin/env bash
# Instructions of the job, by message and parser, counted by callgrind: unlike times they are the same on every run.
# Needs: valgrind. Prints a table; about four minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cargo build --release --quiet
program=${CARGO_TARGET_DIR:-target}/release/sipora-peers-bench
passes=200
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mapfile -t parsers < <("$program" --list | sed -n 's/^parser //p')
mapfile -t messages < <("$program" --list | sed -n 's/^message //p')

# What starting costs is in both runs, and falls out.
instructions() {
  valgrind --tool=callgrind --callgrind-out-file="$scratch/out" "$program" --run "$1" "$2" "$3" 2>&1 |
    sed -n 's/^==[0-9]*== Collected : //p'
}

for message in "${messages[@]}"; do
  for parser in "${parsers[@]}"; do
    if "$program" --run "$parser" "$message" 1 2>/dev/null; then
      few=$(instructions "$parser" "$message" 10)
      many=$(instructions "$parser" "$message" $((passes + 10)))
      echo "$message $parser $(((many - few) / passes))"
    else
      echo "$message $parser -"
    fi
  done
done | awk -v parsers="${parsers[*]}" '
  BEGIN {
    count = split(parsers, names, " ")
    line = "| message |"; rule = "| --- |"
    for (i = 1; i <= count; i++) { line = line " " names[i] " |"; rule = rule " ---: |" }
    print line; print rule
  }
  {
    if ($2 == names[1]) { ours = $3; line = "| " $1 " |" }
    line = line " " ($3 == "-" ? "–" : $3) " |"
    if ($3 != "-") { total[$2] += $3; same[$2] += ours; read[$2]++ }
    if ($2 == names[count]) print line
  }
  END {
    line = "| mean |"; for (i = 1; i <= count; i++) line = line sprintf(" %.0f |", total[names[i]] / read[names[i]]); print line
    line = "| ours on the same messages |"; for (i = 1; i <= count; i++) line = line sprintf(" %.0f |", same[names[i]] / read[names[i]]); print line
    line = "| ratio |"; for (i = 1; i <= count; i++) line = line sprintf(" %.2f |", total[names[i]] / same[names[i]]); print line
  }'
