# Sourced by the comparisons, from the root of the repository: says what of the given tools is missing, and builds the
# programs to be measured. `prepare command:package…` takes Debian's names.

prepare() {
  local missing=() tool
  for tool in "$@"; do
    command -v "${tool%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${tool%%:*}" ] || missing+=("${tool##*:}")
  done
  [ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || missing+=("libnginx-mod-http-lua")
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "error: install these first (Debian's names): ${missing[*]}" >&2
    exit 1
  fi
  "${CARGO:-cargo}" build --locked --release --bin tidegate --example constant
}
