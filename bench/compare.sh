#!/usr/bin/env bash
# Compares Tidegate with nginx + lua-nginx-module, Varnish and a bare Pingora proxy on this machine, in one run.
# Needs python3, wrk, nginx with lua-nginx-module, and varnish; says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for tool in python3:python3 wrk:wrk nginx:nginx-light varnishd:varnish; do
  command -v "${tool%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${tool%%:*}" ] || missing+=("${tool##*:}")
done
[ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || missing+=("libnginx-mod-http-lua")
if [ "${#missing[@]}" -gt 0 ]; then
  echo "error: install these first (Debian's names): ${missing[*]}" >&2
  exit 1
fi
"${CARGO:-cargo}" build --locked --release --bin tidegate --example constant
exec python3 bench/compare.py "$@"
