#!/usr/bin/env bash
# Compares what a call costs the user agent that answers it: the answering example, and a bare recvfrom/sendto responder that
# answers the same messages from copied headers, the floor.
#
#   scripts/bench-calls.sh                 # nine rounds of 2,500 calls at 500 a second
#   ROUNDS=3 CALLS=20000 RATE=1000 HELD=10000 scripts/bench-calls.sh
#
# Both get the same calls from SIPp's built-in uac over UDP (INVITE 180 200 ACK BYE 200), in interleaved rounds, each with a
# fresh process. It prints CPU microseconds a call with the ratio to the floor, and, from a round of its own, the bytes that
# HELD calls take which are up: once their transactions are over, 40 s after the last was answered, and with what the allocator
# kept of them for later, so that it is an upper bound. Medians of the rounds; the ratio is the median of each round's own, since a
# virtual machine may be half as fast in the next.
# Needs sipp (Debian's package sip-tester).
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-9}
CALLS=${CALLS:-2500}
RATE=${RATE:-500}
HELD=${HELD:-5000}
PORT=${PORT:-15070}
CLIENT_PORT=${CLIENT_PORT:-16070}
target=${CARGO_TARGET_DIR:-target}
ANSWER=${ANSWER:-$target/release/examples/answer}
FLOOR=${FLOOR:-$target/release/examples/call_floor}

command -v sipp >/dev/null || { echo "sipp is not installed" >&2; exit 2; }
[ -n "${SIPORA_BUILT:-}" ] || {
    cargo build --release -q -p sipora-dialog-core --example answer
    cargo build --release -q -p sipora-testkit --example call_floor
}

work=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap 'stop; rm -rf "$work"' EXIT

start() { # floor or answer
    case $1 in
    floor) "$FLOOR" "$PORT" 2>/dev/null & ;;
    answer) "$ANSWER" "$PORT" 2>"$work/answer.log" & ;;
    esac
    server=$!
    sleep 1
    kill -0 "$server" 2>/dev/null || { echo "$1 does not start" >&2; exit 2; }
}

cpu() { # nanoseconds of CPU time so far, of all threads
    cat /proc/"$server"/task/*/schedstat | awk '{ sum += $1 } END { printf "%d", sum }'
}

memory() { # bytes of its own
    awk '/^Private_(Clean|Dirty):/ { sum += $2 } END { printf "%d", sum * 1024 }' /proc/"$server"/smaps_rollup
}

load() { # calls, further arguments of sipp
    local calls=$1
    shift
    (cd "$work" && sipp -sn uac "127.0.0.1:$PORT" -i 127.0.0.1 -p "$CLIENT_PORT" -m "$calls" -r "$RATE" -l "$calls" \
        -nostdin -timeout $((calls / RATE + 120)) "$@" >"$work/sipp.log" 2>&1) || { echo "SIPp counted calls that failed" >&2; return 1; }
}

median() {
    sort -n | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

for ((round = 1; round <= ROUNDS; round++)); do
    for program in floor answer; do
        start "$program"
        # The first calls fill caches and pools.
        load 500
        before=$(cpu)
        load "$CALLS"
        after=$(cpu)
        echo $(((after - before) / CALLS)) >>"$work/$program.cpu"
        stop
    done
done

start answer
load 500
sleep 40
before=$(memory)
# Each call is up for long enough that its transactions are over.
(load "$HELD" -d 75000) &
caller=$!
sleep $((HELD / RATE + 45))
after=$(memory)
wait "$caller"
held=$(((after - before) / HELD))
stop

floor=$(median <"$work/floor.cpu")
answer=$(median <"$work/answer.cpu")
ratio=$(paste "$work/answer.cpu" "$work/floor.cpu" | awk '{ print $1 / $2 }' | median)
awk -v floor="$floor" -v answer="$answer" -v ratio="$ratio" -v held="$held" 'BEGIN {
    printf "%-8s %10s %8s\n", "", "us a call", "x floor"
    printf "%-8s %10.1f %8.2f\n", "floor", floor / 1000, 1
    printf "%-8s %10.1f %8.2f\n", "answer", answer / 1000, ratio
    printf "a call that is up holds %d bytes\n", held
}'
