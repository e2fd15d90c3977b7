#!/usr/bin/env bash
# Installs the programs that the peer tests talk to: SIP software that other people wrote.
# Debian or a derivative; safe to run again; needs root, or sudo without a password.
#
#   sip-tester  SIPp     registers a thousand users at the server
#   sipsak      sipsak   registers, queries and pings
#   baresip     baresip  a phone that registers, chats, publishes, watches, calls and is called
#   kamailio    Kamailio a registrar for the client to register with
#   kamailio-presence-modules    makes Kamailio a presence server, for the client to subscribe and publish at
#   openssl     openssl  registers over TLS, by hand
#   nodejs npm  JsSIP and SIP.js, phones that speak WebSocket, in the versions of scripts/test-peers/package-lock.json
#   chromium    Chromium a browser with JsSIP in a page
#   tcpdump sngrep       read captures, and take HEP
#   dnsmasq-base         dnsmasq, a name server with NAPTR and SRV records
#
# The phones from npm go into a folder of the user's cache (SIPORA_TEST_PEERS names another), where the tests look too.
set -euo pipefail

# baresip-core holds the program and every module that the tests load; the package baresip would
# recommend a desktop's worth of video and audio output.
packages=(sip-tester sipsak baresip-core kamailio kamailio-presence-modules openssl nodejs npm chromium dnsmasq-base tcpdump sngrep)
programs=(sipp sipsak baresip kamailio presence_xml.so openssl node npm chromium dnsmasq tcpdump sngrep)

as_root() {
  if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo -n "$@"; fi
}

has_program() {
  case $1 in
    *.so) compgen -G "/usr/lib*/kamailio/modules/$1" >/dev/null || compgen -G "/usr/lib/*/kamailio/modules/$1" >/dev/null ;;
    *) command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] ;;
  esac
}

missing_packages() {
  local index
  for index in "${!packages[@]}"; do
    has_program "${programs[$index]}" || echo "${packages[$index]}"
  done
}

# Debian starts a service as its package is installed. The tests start their own Kamailio on a free port, so
# nothing may be left running on 5060: the policy of Debian's invoke-rc.d says no while we install.
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
remove_policy() {
  [[ $policy_is_ours == no ]] || as_root rm -f "$policy"
}
trap remove_policy EXIT

forbid_service_start() {
  [[ -e $policy ]] && return
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  policy_is_ours=yes
  as_root chmod 755 "$policy"
}

install_packages() {
  local kamailio_is_new=no
  [[ " $* " == *" kamailio "* ]] && kamailio_is_new=yes
  forbid_service_start
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
  # Nor may it start with the machine. An administrator who had it before us keeps it as it was.
  if [[ $kamailio_is_new == yes && -x /usr/sbin/update-rc.d ]]; then
    as_root update-rc.d kamailio disable >/dev/null 2>&1 || true
  fi
}

mapfile -t missing < <(missing_packages)
if [[ ${#missing[@]} -gt 0 ]]; then
  command -v apt-get >/dev/null || { echo "install-test-peers: no apt-get; install ${missing[*]} yourself" >&2; exit 1; }
  install_packages "${missing[@]}"
fi

# Exactly what the lock file names, by its checksums, and nothing of it is run while it is installed. JsSIP is also made
# one file, for a page. Quick where the same is there already.
install_phones() {
  local from=$1 to=$2
  if [[ -s $to/jssip.bundle.js ]] && cmp -s "$from/package-lock.json" "$to/package-lock.json"; then return; fi
  mkdir -p "$to"
  rm -f "$to/jssip.bundle.js"
  cp "$from/package.json" "$from/package-lock.json" "$to/"
  npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
  echo 'window.JsSIP = require("jssip");' |
    (cd "$to" && node node_modules/esbuild/bin/esbuild --bundle --log-level=error --outfile=jssip.bundle.new)
  # Last and at once: who sees it sees everything.
  mv "$to/jssip.bundle.new" "$to/jssip.bundle.js"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
phones=${SIPORA_TEST_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/sipora/test-peers}

for program in "${programs[@]}"; do
  has_program "$program" || { echo "install-test-peers: $program is still missing" >&2; exit 1; }
done

install_phones "$here/test-peers" "$phones"

export PATH=$PATH:/usr/sbin
phone_version() { node -p "require('$phones/node_modules/$1/package.json').version"; }
printf '%-9s %s\n' \
  sipp "$(sipp -v </dev/null 2>&1 | sed -n 's/^ *SIPp \(v[^ ]*\)\.$/\1/p' | head -1)" \
  sipsak "$(sipsak -V </dev/null 2>&1 | head -1)" \
  baresip "$(baresip -h </dev/null 2>&1 | sed -n 's/^baresip \(v[^ ]*\).*/\1/p' | head -1)" \
  kamailio "$(kamailio -v </dev/null 2>&1 | head -1)" \
  openssl "$(openssl version)" \
  node "$(node --version)" \
  jssip "$(phone_version jssip)" \
  sip.js "$(phone_version sip.js)" \
  chromium "$(chromium --version 2>/dev/null | head -1)" \
  tcpdump "$(tcpdump --version 2>&1 | sed -n 's/^tcpdump version //p')" \
  sngrep "$(sngrep -V | sed -n 's/^sngrep - //p')" \
  dnsmasq "$(dnsmasq --version | sed -n 's/^Dnsmasq version \([^ ]*\).*/\1/p')"
