#!/usr/bin/env bash
# Compares Tidegate with nginx + lua-nginx-module, Varnish and a bare Pingora proxy on this machine, in one run.
# Needs python3, wrk, nginx with lua-nginx-module, and varnish; says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

. bench/prepare.sh
prepare python3:python3 wrk:wrk nginx:nginx-light varnishd:varnish
exec python3 bench/compare.py "$@"
