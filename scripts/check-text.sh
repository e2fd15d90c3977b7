#!/usr/bin/env bash
# Refuses text that means something on one machine only: paths out of the repository, home directories, and marks that
# were left for later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
refuse() {
  local why=$1 pattern=$2 hits
  hits=$(git grep -nIE --untracked -e "$pattern" -- . ':!scripts/check-text.sh' ':!crates/testkit/fixtures/*/*.dat' ':!Cargo.lock') || return 0
  echo "$why:" >&2
  echo "$hits" | cut -c1-160 | sed 's/^/  /' >&2
  status=1
}

refuse 'a path out of the repository' '\.\./(shared|main)\b'
refuse 'a path of one machine' '(^|[^[:alnum:]_.~/-])/(home|root|work|Users)/[[:alnum:]_.]'
refuse 'a reference that a reader cannot follow' '\b[Ii]ssue #?[0-9]+\b'
refuse 'a mark left for later' '\b(FIXME|XXX|TODO)\b'
refuse 'an unresolved merge' '^(<<<<<<<|>>>>>>>) '
exit "$status"
