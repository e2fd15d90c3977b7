#!/usr/bin/env bash
# Compares what a REGISTER costs: Kamailio (in memory), `sipora serve`, and a bare recvfrom/sendto responder, the floor.
#
#   scripts/bench-registrar.sh                 # five rounds of 10,000 registrations at 1,500 a second, and as many at 6,000
#   ROUNDS=3 CALLS=20000 RATES=4000 SERVERS="floor sipora sipora:2" scripts/bench-registrar.sh
#
# All get the same traffic from SIPp, in interleaved rounds, each round with fresh processes: a first REGISTER for each of
# CALLS contacts, a refresh for each, and a first REGISTER with a digest round trip (401, then 200). It prints CPU microseconds
# for each of these, memory a contact once transactions are over (40 s after the load), failures and retransmissions: medians
# of the rounds, and of their ratios to the floor. A table for each of RATES: at the lower one a server sleeps between any two requests
# and finds its caches cold, at the higher one it is busy. Where there are retransmissions, SIPp is at its limit, and the times
# are of little use. `sipora:2` is a server of two shards. Needs sipp and kamailio (Debian's packages); SIPORA and FLOOR name
# other binaries.
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-5}
CALLS=${CALLS:-10000}
RATES=${RATES:-"1500 6000"}
PORT=${PORT:-15060}
CLIENT_PORT=${CLIENT_PORT:-16060}
SERVERS=${SERVERS:-"floor kamailio sipora"}
target=${CARGO_TARGET_DIR:-target}
SIPORA=${SIPORA:-$target/release/sipora}
FLOOR=${FLOOR:-$target/release/examples/floor}

for program in sipp kamailio; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 2; }
done
[ -n "${SIPORA_BUILT:-}" ] || {
    cargo build --release -q -p sipora-cli
    cargo build --release -q -p sipora-testkit --example floor
}

work=$(mktemp -d)
server=
stop() {
    if [ -n "$server" ]; then
        kill -- "-$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap 'stop; rm -rf "$work"' EXIT

# --- What SIPp says -----------------------------------------------------------------------------------------------------

register() { # CSeq number, user, further header line
    cat <<XML
REGISTER sip:127.0.0.1 SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:$2@127.0.0.1>;tag=a[call_number]
To: <sip:$2@127.0.0.1>
Call-ID: [call_id]
CSeq: $1 REGISTER
Contact: <sip:$2@[local_ip]:[local_port]>
${3:+$3
}Expires: 3600
User-Agent: SIPp
Content-Length: 0

XML
}

scenario() { # name, messages
    printf '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="%s">\n%s\n</scenario>\n' "$1" "$2" >"$work/$1.xml"
}

ask() { # message, status, attributes
    printf '<send retrans="500"><![CDATA[\n\n%s\n\n]]></send>\n<recv response="%s" timeout="8000" %s></recv>\n' "$1" "$2" "${3:-}"
}

scenario first "$(ask "$(register 1 'u[call_number]')" 200)"
scenario refresh "$(ask "$(register 2 'u[call_number]')" 200)"
scenario digest "$(ask "$(register 1 '[field0]')" 401 'auth="true"')
$(ask "$(register 2 '[field0]' '[field1]')" 200)"
{
    echo SEQUENTIAL
    for ((user = 1; user <= CALLS; user++)); do
        echo "u$user;[authentication username=u$user password=secret]"
    done
} >"$work/users.csv"
for ((user = 1; user <= CALLS; user++)); do
    echo "u$user:secret"
done >"$work/users.txt"

# --- The servers --------------------------------------------------------------------------------------------------------

cat >"$work/kamailio.cfg" <<'CFG'
debug=-1
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_expires", 7200)
request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (!is_method("REGISTER")) { sl_send_reply("405", "Method Not Allowed"); exit; }
#!ifdef WITH_DIGEST
    if (!pv_www_authenticate("$fd", "secret", "0")) { www_challenge("$fd", "1"); exit; }
#!endif
    if (!save("location")) { sl_reply_error(); }
    exit;
}
CFG

start() { # server, mode
    case $1 in
    floor) setsid "$FLOOR" "127.0.0.1:$PORT" "$2" 2>/dev/null & ;;
    kamailio)
        local flag=()
        [ "$2" = digest ] && flag=(-A WITH_DIGEST)
        setsid kamailio -f "$work/kamailio.cfg" "${flag[@]}" -l "udp:127.0.0.1:$PORT" -DD -E -m 512 -M 16 \
            -w "$work" -Y "$work" >"$work/kamailio.log" 2>&1 &
        ;;
    sipora*)
        local access=(--no-auth)
        [ "$2" = digest ] && access=(--users "$work/users.txt")
        case $1 in
        *:*)
            echo "shards = ${1#*:}" >"$work/shards.toml"
            access+=(--config "$work/shards.toml")
            ;;
        esac
        setsid "$SIPORA" serve --listen "udp:127.0.0.1:$PORT" --domain 127.0.0.1 "${access[@]}" >/dev/null 2>"$work/sipora.log" &
        ;;
    esac
    server=$!
    sleep 1.5
    kill -0 "$server" 2>/dev/null || { echo "$1 does not start" >&2; cat "$work/${1%%:*}.log" >&2; exit 2; }
}

processes() { # of the server's group
    pgrep -g "$server" || true
}

cpu() { # nanoseconds of CPU time so far, of all threads of all processes
    local process
    for process in $(processes); do
        cat /proc/"$process"/task/*/schedstat
    done | awk '{ sum += $1 } END { printf "%d", sum }'
}

memory() { # bytes, what processes share counted once
    local process
    for process in $(processes); do
        cat /proc/"$process"/smaps_rollup
    done | awk '/^Pss:/ { sum += $2 } END { printf "%d", sum * 1024 }'
}

# --- Rounds -------------------------------------------------------------------------------------------------------------

phase() { # server, scenario, rate
    local before after flags=()
    [ "$2" = digest ] && flags=(-inf "$work/users.csv")
    rm -f "$work"/*_.csv
    before=$(cpu)
    (cd "$work" && sipp "127.0.0.1:$PORT" -sf "$2.xml" "${flags[@]}" -i 127.0.0.1 -p "$CLIENT_PORT" -m "$CALLS" -r "$3" \
        -l "$CALLS" -cid_str '%u-bench@127.0.0.1' -nostdin -trace_stat -stf stat_.csv -fd 1000 >/dev/null 2>&1) || true
    after=$(cpu)
    awk -F';' -v server="$1" -v phase="$2" -v rate="$3" -v calls="$CALLS" -v nanos=$((after - before)) '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        { for (i = 1; i <= NF; i++) last[i] = $i }
        END {
            printf "%s %s %.2f %d %d %d\n", server, phase, nanos / calls / 1000,
                calls - last[at["SuccessfulCall(C)"]], last[at["Retransmissions(C)"]], rate
        }' "$work/stat_.csv"
}

for ((round = 1; round <= ROUNDS; round++)); do
    for rate in $RATES; do
        for name in $SERVERS; do
            echo "round $round, $rate a second: $name" >&2
            start "$name" plain
            idle=$(memory)
            phase "$name" first "$rate" >>"$work/results"
            phase "$name" refresh "$rate" >>"$work/results"
            if [ "$round" = "$ROUNDS" ] && [ "$name" != floor ]; then
                sleep 40
                echo "$name $(((($(memory) - idle)) / CALLS)) $rate" >>"$work/memory"
            fi
            stop
            start "$name" digest
            phase "$name" digest "$rate" >>"$work/results"
            stop
        done
    done
done

# --- What came out ------------------------------------------------------------------------------------------------------

median() { sort -g | awk '{ value[NR] = $1 } END { print NR ? (NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2) : 0 }'; }
of() { awk -v server="$1" -v phase="$2" -v rate="$3" '$1 == server && $2 == phase && $6 == rate { print $3 }' "$work/results"; }

for rate in $RATES; do
    echo "$ROUNDS rounds, $CALLS contacts, $rate registrations a second; CPU microseconds, medians, and of the ratios to the floor"
    printf '| server | first REGISTER | refresh | digest round trip | bytes a contact | failures | retransmissions |\n'
    printf '| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n'
    for name in $SERVERS; do
        row="| $name |"
        for phase in first refresh digest; do
            cost=$(of "$name" "$phase" "$rate" | median)
            # Of each round, since a virtual machine may be half as fast in the next.
            ratio=$(paste <(of "$name" "$phase" "$rate") <(of floor "$phase" "$rate") | awk '$2 > 0 { print $1 / $2 }' | median)
            row="$row $(awk -v cost="$cost" -v ratio="$ratio" \
                'BEGIN { if (ratio > 0) printf("%.1f (%.2f) |", cost, ratio); else printf("%.1f |", cost) }')"
        done
        bytes=$(awk -v server="$name" -v rate="$rate" '$1 == server && $3 == rate { print $2 }' "$work/memory" 2>/dev/null || true)
        row="$row ${bytes:-–} | $(awk -v server="$name" -v rate="$rate" \
            '$1 == server && $6 == rate { failed += $4; again += $5 } END { printf "%d | %d |", failed, again }' "$work/results")"
        echo "$row"
    done
    echo
done
