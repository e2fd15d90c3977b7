#!/usr/bin/env bash
# Builds `sipora` guided by a profile: once with counters, which a load of SIPp's fills, and once more by what they say. What runs
# for each request then stands together, apart from what hardly ever runs, and fits the caches of a processor better.
#
#   scripts/build-guided.sh                # target/guided/sipora
#
# The load is what a registrar does most: registrations over UDP and TCP, first ones and refreshes, with and without digest,
# messages to registered users, OPTIONS and watchers. What it leaves out, TLS and WebSocket among it, is built for size. Takes two
# release builds and a minute. Needs sipp (Debian's package sip-tester) and llvm-profdata (`rustup component add llvm-tools`).
set -euo pipefail
cd "$(dirname "$0")/.."

PORT=${PORT:-15080}
CLIENT_PORT=${CLIENT_PORT:-16080}
CALLS=${CALLS:-5000}
RATE=${RATE:-1500}
target=${CARGO_TARGET_DIR:-$PWD/target}/guided
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata

command -v sipp >/dev/null || { echo "sipp is not installed" >&2; exit 2; }
[ -x "$profdata" ] || { echo "llvm-profdata is not installed: rustup component add llvm-tools" >&2; exit 2; }

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

build() { # flags of rustc, directory
    # With --target, build scripts and procedural macros are built without the flags.
    CARGO_ENCODED_RUSTFLAGS=$1 CARGO_TARGET_DIR=$2 \
        cargo build --locked --release -q -p sipora-cli --bin sipora --target "$host"
}

# --- What SIPp says -----------------------------------------------------------------------------------------------------

request() { # method, user, CSeq number, further header lines
    cat <<SIP
$1 sip:$2 SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@127.0.0.1>;tag=a[call_number]
To: <sip:[field0]@127.0.0.1>
Call-ID: [call_id]
CSeq: $3 $1
Contact: <sip:[field0]@[local_ip]:[local_port];transport=[transport]>
User-Agent: SIPp
${4:+$4
}Content-Length: 0

SIP
}

ask() { # message, status, attributes
    printf '<send retrans="500"><![CDATA[\n\n%s\n\n]]></send>\n<recv response="%s" timeout="8000" %s></recv>\n' "$1" "$2" "${3:-}"
}

scenario() { # name, steps
    printf '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="%s">\n%s\n</scenario>\n' "$1" "$2" >"$work/$1.xml"
}

# Answers whatever request has come.
answer() { # method
    cat <<SIP
<recv request="$1"></recv>
<send><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=b[call_number]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
SIP
}

scenario register "$(ask "$(request REGISTER 127.0.0.1 1 'Expires: 3600')" 200)
$(ask "$(request REGISTER 127.0.0.1 2 'Expires: 3600')" 200)"
scenario digest "$(ask "$(request REGISTER 127.0.0.1 1 'Expires: 3600')" 401 'auth="true"')
$(ask "$(request REGISTER 127.0.0.1 2 $'Expires: 3600\n[field1]')" 200)
$(ask "$(request REGISTER 127.0.0.1 3 $'Expires: 3600\n[field1]')" 200)"
scenario options "$(ask "$(request OPTIONS 127.0.0.1 1)" 200)"
# To oneself: it goes where its user has registered from. SIPp answers nothing while it might have to repeat a request.
message=$(ask "$(request MESSAGE '[field0]@127.0.0.1' 1)" 200)
message=${message/ retrans=\"500\"/}
scenario message "${message%%<recv*}$(answer MESSAGE)<recv${message#*<recv}"
scenario watch "$(ask "$(request SUBSCRIBE '[field0]@127.0.0.1' 1 $'Event: presence\nExpires: 600')" 200)
$(answer NOTIFY | sed 's/;tag=b\[call_number\]//')"

{
    echo SEQUENTIAL
    for ((user = 1; user <= CALLS; user++)); do
        echo "u$user;[authentication username=u$user password=secret]"
    done
} >"$work/users.csv"
for ((user = 1; user <= CALLS; user++)); do
    echo "u$user:secret"
done >"$work/users.txt"

# --- The load -----------------------------------------------------------------------------------------------------------

serve() { # further arguments
    "$counting" serve --listen "udp:127.0.0.1:$PORT" --listen "tcp:127.0.0.1:$PORT" --domain 127.0.0.1 "$@" \
        >/dev/null 2>"$work/server.log" &
    server=$!
    sleep 1.5
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 2; }
}

load() { # scenario, transport (u1 or t1), calls
    (cd "$work" && sipp "127.0.0.1:$PORT" -sf "$1.xml" -inf users.csv -t "$2" -i 127.0.0.1 -p "$CLIENT_PORT" -m "$3" -r "$RATE" \
        -l "$3" -nostdin -timeout $(($3 / RATE + 60)) >"$work/sipp.log" 2>&1) ||
        { echo "the load did not succeed: $1 over $2" >&2; tail -n 40 "$work/sipp.log" >&2; exit 1; }
}

echo "1 of 3: building with counters" >&2
build "-Cprofile-generate=$target/profile" "$target/counting"
counting=$target/counting/$host/release/sipora

echo "2 of 3: filling them" >&2
rm -rf "$target/profile" "$target"/*.profdata
serve --no-auth
load register u1 "$CALLS"
load options u1 "$((CALLS / 4))"
load watch u1 "$((CALLS / 4))"
load message u1 "$((CALLS / 4))"
load register t1 "$((CALLS / 2))"
stop
serve --users "$work/users.txt"
load digest u1 "$CALLS"
stop
# Another name each time: cargo builds nothing anew for another file of the same name.
profile=$target/sipora-$(date +%s).profdata
"$profdata" merge -o "$profile" "$target"/profile/*.profraw

echo "3 of 3: building by what they say" >&2
build "-Cprofile-use=$profile" "$target/guided"
cp "$target/guided/$host/release/sipora" "$target/sipora"
echo "$target/sipora"
