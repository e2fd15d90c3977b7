#!/usr/bin/env bash
# How many other crates a user of one of ours links: unique packages in the normal dependency tree, itself not counted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
check() {
  local crate=$1 budget=$2 count
  shift 2
  count=$(cargo tree --locked -p "$crate" -e normal --prefix none --format '{p}' "$@" |
    sed 's/ (\*)$//; s/ (proc-macro)//' | sort -u | grep -cv "^$crate v" || true)
  printf '%-26s %3d of %3d\n' "$crate" "$count" "$budget"
  [[ $count -gt 0 && $count -le $budget ]] || { echo "$crate: over its budget" >&2; status=1; }
}

check sipora-message 12 --no-default-features
check sipora-transaction-core 45 --no-default-features
check sipora-session-core 130 --all-features
exit "$status"
