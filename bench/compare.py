"""Runs each server on one processor under the same load, and prints what a request costs it.

The figure is processor time (user and system, all processes of the server) for each request, because it hardly depends
on what else the machine does. Rounds are interleaved, the median of each server counts, and the last column is the ratio
to Tidegate's.
"""

import argparse
import http.server
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request

TICK = os.sysconf("SC_CLK_TCK")
LUA_MODULES = "/usr/lib/nginx/modules"

POLICY = """
return {
  request = function(req)
    if req.headers.authorization then return { bypass = "authorized" } end
    local accept = req.headers.accept or ""
    local format = string.find(accept, "webp", 1, true) and "webp" or "plain"
    return { key = { req.path, req.query.v or "", format } }
  end,
}
"""

VCL = """
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "ORIGIN"; }
sub vcl_recv {
  if (req.http.Authorization) { return (pass); }
  set req.http.X-Format = "plain";
  if (req.http.Accept ~ "webp") { set req.http.X-Format = "webp"; }
  unset req.http.Cookie;
  return (hash);
}
sub vcl_hash {
  hash_data(req.http.Host);
  hash_data(regsub(req.url, "\\?.*$", ""));
  hash_data(regsub(req.url, "^.*[?&]v=([^&]*).*$|^.*$", "\\1"));
  hash_data(req.http.X-Format);
  return (lookup);
}
"""

NGINX = """
load_module LUA/ndk_http_module.so;
load_module LUA/ngx_http_lua_module.so;
worker_processes 1; daemon off; pid DIR/nginx.pid; error_log DIR/nginx.err crit; user root;
events { worker_connections 4096; }
http {
  access_log off; tcp_nopush on; sendfile on; keepalive_requests 100000000;
  client_body_temp_path DIR/b; proxy_temp_path DIR/t; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  proxy_cache_path DIR/cache levels=1:2 keys_zone=z:64m max_size=4g inactive=60m use_temp_path=off;
  lua_load_resty_core off;
  server {
    listen 127.0.0.1:PORT;
    location / {
      set $format "plain"; set $v "";
      access_by_lua_block {
        local headers = ngx.req.get_headers()
        if headers["authorization"] then ngx.var.format = "none" end
        local accept = headers["accept"] or ""
        if string.find(accept, "webp", 1, true) then ngx.var.format = "webp" end
        ngx.var.v = ngx.var.arg_v or ""
      }
      proxy_cache z; proxy_cache_key $host|$uri|$v|$format;
      proxy_pass http://127.0.0.1:ORIGIN;
    }
  }
}
"""

TIDEGATE = """
server: { listen: ["127.0.0.1:PORT"], threads: 1, pid_file: DIR/t.pid, upgrade_socket: DIR/t.sock }
admin: off
policies: { dir: policies }
cache: { memory: { capacity: 1GiB, max_object: 8MiB } }
origins: { o: { http: { servers: ["127.0.0.1:ORIGIN"] } } }
buckets: { b: { match: { hosts: ["*"] }, origin: o, policy: bench.lua } }
log: { level: error }
"""

HEADERS = [
    "Accept: image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-GB,en;q=0.7",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/130.0",
    "Referer: http://bench.test/index.html",
    "Sec-Fetch-Dest: image",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Site: same-origin",
]


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = int(self.path.strip("/").split("?")[0] or 1024)
        body = b"x" * size
        self.send_response(200)
        self.send_header("Content-Type", "image/webp")
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("ETag", '"bench"')
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def family(pid):
    """The process and its children."""
    pids = [pid]
    for parent in pids:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as f:
                    pids += [int(child) for child in f.read().split()]
        except OSError:
            pass
    return pids


def cpu_seconds(pid):
    total = 0
    for each in family(pid):
        try:
            with open(f"/proc/{each}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICK


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        pinned = ["taskset", "-c", "0"] + command
        self.process = subprocess.Popen(pinned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.time() > deadline or self.process.poll() is not None:
                    sys.exit(f"error: {name} did not start")
                time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def load(self, size, seconds, connections):
        """Processor microseconds for each request, and requests a second."""
        url = f"http://127.0.0.1:{self.port}/{size}?v=3&utm=1"
        for _ in range(3):
            request = urllib.request.Request(url, headers=dict(h.split(": ", 1) for h in HEADERS))
            urllib.request.urlopen(request).read()
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        for header in HEADERS:
            command += ["-H", header]
        before = cpu_seconds(self.process.pid)
        out = subprocess.run(command + [url], capture_output=True, text=True, check=True).stdout
        used = cpu_seconds(self.process.pid) - before
        requests = int(re.search(r"(\d+) requests in", out).group(1))
        if "Non-2xx" in out or requests == 0:
            sys.exit(f"error: {self.name} answered with errors:\n{out}")
        per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        return used / requests * 1e6, per_second


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1024,102400,1048576", help="body sizes in bytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=32)
    args = parser.parse_args()

    folder = tempfile.mkdtemp(prefix="tidegate-bench-")
    # Varnish and nginx give up their rights and still have to get in.
    os.chmod(folder, 0o755)
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port_of_origin = str(origin.server_address[1])

    def write(name, text, port):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        text = text.replace("ORIGIN", port_of_origin).replace("PORT", str(port)).replace("DIR", folder)
        with open(path, "w") as f:
            f.write(textwrap.dedent(text).replace("LUA", LUA_MODULES) if name == "nginx.conf" else text)
        return path

    release = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release")
    servers = []
    try:
        write("policies/bench.lua", POLICY, 0)
        port = free_port()
        config = write("tidegate.yaml", TIDEGATE, port)
        servers.append(Server("Tidegate, policy on", [f"{release}/tidegate", "serve", "-c", config], port))
        port = free_port()
        servers.append(Server("nginx + Lua, proxy_cache", ["nginx", "-c", write("nginx.conf", NGINX, port)], port))
        port = free_port()
        vcl = write("bench.vcl", VCL, port)
        command = ["varnishd", "-F", "-f", vcl, "-a", f"127.0.0.1:{port}", "-s", "malloc,1g", "-n", f"{folder}/v"]
        command += ["-p", "thread_pools=1", "-p", "thread_pool_min=50"]
        servers.append(Server("Varnish, VCL", command, port))
        port = free_port()
        servers.append(Server("Pingora, a constant", [f"{release}/examples/constant", f"127.0.0.1:{port}"], port))

        print("| body | server | µs of processor time a request | to Tidegate | requests/s |")
        print("|---|---|---|---|---|")
        for size in (int(size) for size in args.sizes.split(",")):
            contenders = [s for s in servers if size == 1024 or not s.name.startswith("Pingora")]
            figures = {server.name: [] for server in contenders}
            for _ in range(args.rounds):
                for server in contenders:
                    figures[server.name].append(server.load(size, args.seconds, args.connections))
            own = statistics.median(cpu for cpu, _ in figures[servers[0].name])
            for name, measured in figures.items():
                cpu = statistics.median(cpu for cpu, _ in measured)
                per_second = statistics.median(rate for _, rate in measured)
                print(f"| {size} | {name} | {cpu:.1f} | {own / cpu:.2f} | {per_second:.0f} |", flush=True)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


main()
