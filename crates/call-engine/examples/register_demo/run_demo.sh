#!/usr/bin/env bash
# A registrar and a client, both built from this workspace, register with each other on real sockets.
# Exit status: 0 if every step went as it should, 1 if one did not, 2 for wrong usage or a failed build or start.
set -u

usage() {
    cat <<'END'
Usage: run_demo.sh [--transport udp|tcp|tls|ws|wss] [--keep]

  --transport NAME      what the client uses: udp (the default), tcp, tls, ws (WebSocket), wss
  --keep                leave the server up afterwards, on every address of this machine,
                        and tell how to point a phone at it; the folder of its logs stays too

The folder of the logs is removed when the demo has passed.
END
}

die() {
    echo "run_demo.sh: $*" >&2
    exit 2
}

transport=udp
keep=no
while [ $# -gt 0 ]; do
    case $1 in
    --transport)
        [ $# -ge 2 ] || die "--transport needs a value: udp, tcp, tls, ws or wss"
        transport=$2
        shift
        ;;
    --transport=*) transport=${1#*=} ;;
    --keep) keep=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) die "unknown argument '$1' (try --help)" ;;
    esac
    shift
done
case $transport in
udp | tcp | tls | ws | wss) ;;
*) die "--transport is udp, tcp, tls, ws or wss, not '$transport'" ;;
esac

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || die "cannot find the folder of this script"
manifest=$here/../../Cargo.toml
command -v cargo >/dev/null || die "cargo is not installed: see https://rustup.rs"

echo "building (the first time takes minutes) ..."
built=$(cargo build --quiet --message-format json-render-diagnostics --manifest-path "$manifest" \
    --example register_demo_server --example register_demo_client) || die "the build failed"
# Cargo says where it put each program, whatever the target directory is.
program() {
    sed -n "s/.*\"name\":\"$1\".*\"executable\":\"\([^\"]*\)\".*/\1/p" <<<"$built" | tail -n 1
}
server_program=$(program register_demo_server)
client_program=$(program register_demo_client)
[ -x "$server_program" ] && [ -x "$client_program" ] || die "cannot find what was built"

logs=$(mktemp -d "${TMPDIR:-/tmp}/sipora-demo.XXXXXX") || die "cannot make a folder for the logs"
echo "logs in $logs"

server=
client=
stop() {
    for process in $client $server; do
        kill -TERM "$process" 2>/dev/null
        wait "$process" 2>/dev/null
    done
    client=
    server=
    rm -f "$logs/client.pipe"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

address=127.0.0.1
[ $keep = no ] || address=0.0.0.0
"$server_program" --address $address --root "$logs/root.pem" \
    </dev/null >"$logs/server.out" 2>"$logs/server.log" &
server=$!

port=
for _ in $(seq 100); do
    port=$(sed -n "s/^listening on $transport .*:\([0-9]*\)\$/\1/p" "$logs/server.out")
    [ -z "$port" ] || break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$port" ]; then
    cat "$logs/server.log" >&2
    die "the server did not start (logs in $logs)"
fi

# In the background, since a signal to this script takes effect at once only while it waits.
mkfifo "$logs/client.pipe" || die "cannot make a pipe in $logs"
tee "$logs/client.log" <"$logs/client.pipe" &
copier=$!
trust=()
case $transport in
tls | wss) trust=(--root "$logs/root.pem") ;;
esac
"$client_program" --transport "$transport" ${trust[@]+"${trust[@]}"} "127.0.0.1:$port" </dev/null >"$logs/client.pipe" 2>&1 &
client=$!
wait "$client"
status=$?
client=
wait "$copier"
rm -f "$logs/client.pipe"

# Bob was told, in this order, that alice was away, came, and went.
owed="closed open closed "
told=$(sed -n 's/^   ok:.*bob is told: //p' "$logs/client.log" | tr '\n' ' ')
if [ "$status" -eq 0 ] && [ "$told" != "$owed" ]; then
    echo "run_demo.sh: bob was told '$told', not '$owed'" >&2
    status=1
fi

if ! kill -0 "$server" 2>/dev/null; then
    cat "$logs/server.log" >&2
    echo "run_demo.sh: the server ended before its time" >&2
    status=1
elif [ $keep = yes ] && [ "$status" -eq 0 ]; then
    echo
    sed -n 's/^phone: //p' "$logs/server.out"
    echo "The server stays up as process $server, with its logs in $logs. To stop it: kill $server"
    server=
    trap - EXIT
else
    kill -TERM "$server"
    wait "$server"
    ended=$?
    server=
    if [ $ended -ne 0 ]; then
        cat "$logs/server.log" >&2
        echo "run_demo.sh: the server ended with status $ended" >&2
        status=1
    fi
fi

if [ "$status" -eq 0 ]; then
    [ $keep = yes ] || rm -rf "$logs"
    echo "demo over $transport: passed"
else
    echo "demo over $transport: FAILED (logs in $logs)" >&2
    status=1
fi
exit "$status"
