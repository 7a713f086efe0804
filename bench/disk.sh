#!/usr/bin/env bash
# Compares hits on Tidegate's disk tier with those of nginx's proxy_cache on this machine, in one run.
# Needs python3, wrk, and nginx with lua-nginx-module; says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

. bench/prepare.sh
prepare python3:python3 wrk:wrk nginx:nginx-light
exec python3 bench/disk.py "$@"
