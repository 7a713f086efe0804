#!/usr/bin/env bash
# Installs what building (`build`), trying (`run`) or testing (`test`) Tidegate needs and is missing.
#
# Debian and Ubuntu: by apt-get, with sudo unless run by root; nothing is touched when nothing is missing.
# Elsewhere: says what to install and exits 1.
set -euo pipefail

# command that must exist : Debian package that brings it : what it is for
build_tools=(
  "cc:gcc:C parts of zstd, mimalloc and ring"
  "c++:g++:Luau, the policy engine"
  "make:make:what cmake drives"
  "cmake:cmake:zlib-ng, which Pingora links"
)
run_tools=(
  "curl:curl:requests to the running daemon"
)
test_tools=(
  "redis-server:redis-server:tests of the tier that nodes share"
)

usage() {
  echo "usage: $0 build|run|test" >&2
  exit 2
}

case "${1-}" in
  build) tools=("${build_tools[@]}") ;;
  run) tools=("${build_tools[@]}" "${run_tools[@]}") ;;
  test) tools=("${build_tools[@]}" "${run_tools[@]}" "${test_tools[@]}") ;;
  *) usage ;;
esac

if ! command -v cargo >/dev/null 2>&1; then
  echo "error: cargo is missing: install Rust 1.95 or newer from https://rustup.rs and start again" >&2
  exit 1
fi

packages=()
lines=()
for tool in "${tools[@]}"; do
  IFS=: read -r command package purpose <<<"$tool"
  if ! command -v "$command" >/dev/null 2>&1; then
    packages+=("$package")
    lines+=("  $command ($purpose)")
  fi
done
if [ "${#packages[@]}" -eq 0 ]; then
  exit 0
fi

say_what_is_missing() {
  echo "error: $1. Install these and start again:" >&2
  printf '%s\n' "${lines[@]}" >&2
  if command -v apt-get >/dev/null 2>&1; then
    echo "As root: apt-get update && apt-get install -y --no-install-recommends ${packages[*]}" >&2
  fi
  exit 1
}

if ! command -v apt-get >/dev/null 2>&1; then
  say_what_is_missing "this system has no apt-get, so nothing was installed"
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || say_what_is_missing "installing needs root, and there is no sudo"
  as_root=(sudo)
fi

echo "installing ${packages[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1; then
    cat "$log" >&2
    say_what_is_missing "'apt-get $1' failed"
  fi
}
apt update
apt install -y --no-install-recommends "${packages[@]}"
