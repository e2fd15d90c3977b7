#!/usr/bin/env bash
# Registers users at a server while a crowd misbehaves at it: 8,000 idle connections, 100,000 that come and go, and a hundred of
# each way to hold a server up (headers byte by byte, headers without end, garbage and silence where TLS or WebSocket is due,
# peers that read nothing, resets in the middle of a message). Prints what it measured, and fails where less than 99 % of the
# registrations were answered, or somebody was not cut off.
#
#   scripts/load-connections.sh
#
# It is the test crates/cli/tests/crowd.rs with a release build, larger. Linux; needs 20,000 open files (ulimit -Hn).
set -euo pipefail
cd "$(dirname "$0")/.."

files=20000
ulimit -n "$files" || { echo "load-connections: $files open files are needed (ulimit -Hn says $(ulimit -Hn))" >&2; exit 2; }
profile=(--release)
[[ -z ${DEBUG_BUILD:-} ]] || profile=()
SIPORA_CROWD=full cargo test "${profile[@]}" -q -p sipora-cli --test crowd -- --nocapture --test-threads=1
