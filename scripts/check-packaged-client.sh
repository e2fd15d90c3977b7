#!/usr/bin/env bash
# Proves that the packages work on their own: packs every published crate, unpacks the archives in a directory outside
# the repository, and builds there, from the archives alone, every crate, the program `sipora`, and the client of
# README.md. Then starts the server and runs the client against it.
#
# Why not `cargo package` with its own verification: the registry that it lays over crates.io is cached by name and
# version in cargo's home, so a second run on one machine verifies against the sources of the first.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
build=$target/packaged
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sipora-packaged.XXXXXX")
server=

cleanup() {
  local status=$?
  trap - EXIT
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [[ $status -ne 0 ]]; then
    echo "check-packaged-client: failed; kept for inspection: $scratch" >&2
  else
    rm -rf "$scratch"
  fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() { echo "check-packaged-client: $*" >&2; exit 1; }

# Prints the first fenced block of README.md that opens with the fence $1 and contains the text $2.
readme_block() {
  awk -v fence="$1" -v needle="$2" '
    !inside && index($0, "```" fence) == 1 { inside = 1; block = ""; next }
    inside && /^```/ { if (index(block, needle)) { printf "%s", block; exit } inside = 0; next }
    inside { block = block $0 "\n" }
  ' "$root/README.md"
}

cd "$root"
rm -f "$target"/package/*.crate
unpublished=()
for manifest in $(grep -l '^publish = false' crates/*/Cargo.toml examples/*/Cargo.toml); do
  unpublished+=(--exclude "$(awk -F'"' '/^name = / { print $2; exit }' "$manifest")")
done
cargo package --quiet --workspace "${unpublished[@]}" --no-verify --allow-dirty

mkdir -p "$scratch/packages" "$scratch/client/src"
for archive in "$target"/package/*.crate; do
  # The archives carry one fixed date, by which cargo would take a changed file for an old one: -m dates them now.
  tar -xzmf "$archive" -C "$scratch/packages"
done
for package in "$scratch"/packages/*/; do
  for file in Cargo.toml README.md LICENSE-MIT LICENSE-APACHE; do
    [[ -s $package/$file ]] || fail "$(basename "$package") is packed without $file"
  done
done

{
  echo '[workspace]'
  echo 'resolver = "3"'
  echo 'members = ["client", "packages/*"]'
  echo
  echo '[patch.crates-io]'
  for package in "$scratch"/packages/*/; do
    name=$(basename "$package")
    echo "${name%-[0-9]*.[0-9]*.[0-9]*} = { path = \"packages/$name\" }"
  done
} >"$scratch/Cargo.toml"
{
  printf '[package]\nname = "readme-client"\nversion = "0.0.0"\nedition = "2024"\npublish = false\n\n'
  readme_block toml sipora-session-core
} >"$scratch/client/Cargo.toml"
readme_block rust SessionManagerBuilder >"$scratch/client/src/main.rs.readme"
grep -q 'fn main' "$scratch/client/src/main.rs.readme" || fail "README.md holds no client program"
cp "$scratch/client/src/main.rs.readme" "$scratch/client/src/main.rs"
cp "$root/Cargo.lock" "$scratch/Cargo.lock"

mkdir -p "$build"
find "$build" -depth -name '*sipora*' -exec rm -rf {} +
cd "$scratch"
export CARGO_TARGET_DIR=$build
cargo build --quiet --workspace --exclude readme-client
cargo build --quiet -p readme-client

# The server of the packed program, on a free port, with the user that the README names.
echo 'alice:wonderland' >users.txt
"$build/debug/sipora" serve --listen udp:127.0.0.1:0 --domain 127.0.0.1 --users users.txt \
  >server.out 2>server.err </dev/null &
server=$!
for ((tenths = 0; tenths < 100; tenths++)); do
  grep -q '^listening on udp ' server.out && break
  kill -0 "$server" 2>/dev/null || fail "the server ended: $(cat server.err)"
  sleep 0.1
done
port=$(sed -n 's/^listening on udp .*:\([0-9]*\)$/\1/p' server.out)
[[ -n $port ]] || fail "the server did not say where it listens"

# What the README fixes to well-known ports has to move to free ones; nothing else is changed.
sed -e "s/sip:127\.0\.0\.1:5060/sip:127.0.0.1:$port/g" -e 's/with_sip_port(5061)/with_sip_port(0)/' \
  client/src/main.rs.readme >client/src/main.rs
cargo build --quiet -p readme-client
timeout 60 "$build/debug/readme-client" >client.out 2>client.err </dev/null ||
  fail "the README's client failed: $(cat client.out client.err)"
sed 's/^/  client: /' client.out
grep -q '^OPTIONS: 200' client.out || fail "the client saw no 200 to OPTIONS"
grep -q '^Registered: ' client.out || fail "the client did not register"

kill -TERM "$server"
wait "$server" || fail "the server ended with status $? after SIGTERM"
server=
echo "the README's client, built from the packages alone, registered with the packed server"
