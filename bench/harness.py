"""What the comparisons share: an origin, servers on one processor, and what a request costs them.

The figure is processor time (user and system, all processes of the server) for each request, because it hardly depends
on what else the machine does. Rounds are interleaved, and the median of each server counts.
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

# The same work as the policy's.
NGINX_LUA = """
      set $format "plain"; set $v "";
      access_by_lua_block {
        local headers = ngx.req.get_headers()
        if headers["authorization"] then ngx.var.format = "none" end
        local accept = headers["accept"] or ""
        if string.find(accept, "webp", 1, true) then ngx.var.format = "webp" end
        ngx.var.v = ngx.var.arg_v or ""
      }
      proxy_cache_key $host|$uri|$v|$format;
"""

NGINX_PLAIN = """
      proxy_cache_key $host|$uri|$arg_v;
"""

# Without `tcp_nopush`, as nginx is by default: on the loopback device, whose segments are larger than many bodies, it has
# each wait for a delayed acknowledgement, 40 ms, and what a request costs then is mostly the idling.
NGINX = """
load_module LUA/ndk_http_module.so;
load_module LUA/ngx_http_lua_module.so;
worker_processes 1; daemon off; pid HOME/nginx.pid; error_log HOME/nginx.err crit; user root; worker_rlimit_nofile 65536;
events { worker_connections 4096; }
http {
  access_log off; sendfile on; keepalive_requests 100000000; OPTIONS
  client_body_temp_path HOME/b; proxy_temp_path HOME/t; fastcgi_temp_path HOME/f; uwsgi_temp_path HOME/u; scgi_temp_path HOME/s;
  proxy_cache_path HOME/cache levels=1:2 keys_zone=z:64m max_size=16g inactive=600m use_temp_path=off;
  lua_load_resty_core off;
  server {
    listen 127.0.0.1:PORT;
    location / { KEY
      proxy_cache z;
      proxy_pass http://127.0.0.1:ORIGIN;
    }
  }
}
"""

TIDEGATE = """
server: { listen: ["127.0.0.1:PORT"], threads: 1, pid_file: HOME/t.pid, upgrade_socket: HOME/t.sock }
admin: off
policies: { dir: policies }
cache: CACHE
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
    """Answers `/BYTES` and `/BYTES/ANYTHING` with so many bytes."""

    protocol_version = "HTTP/1.1"
    # A head and a body are two writes.
    disable_nagle_algorithm = True
    asked = 0

    def do_GET(self):
        Origin.asked += 1
        size = int(self.path.strip("/").split("?")[0].split("/")[0] or 1024)
        body = b"x" * size
        self.send_response(200)
        self.send_header("Content-Type", "image/webp")
        self.send_header("Cache-Control", "max-age=86400")
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


def headers():
    return dict(header.split(": ", 1) for header in HEADERS)


class Server:
    """A server on processor 0."""

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
                    self.stop()
                    sys.exit(f"error: {name} did not start")
                time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path):
        return urllib.request.urlopen(urllib.request.Request(self.url(path), headers=headers()))

    def load(self, path, seconds, connections, script=None, arguments=()):
        """Processor microseconds for each request, and requests a second. `path` is already cached."""
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        for header in HEADERS:
            command += ["-H", header]
        if script:
            command += ["-s", script]
        before, asked = cpu_seconds(self.process.pid), Origin.asked
        command += [self.url(path), "--", *map(str, arguments)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        used = cpu_seconds(self.process.pid) - before
        requests = int(re.search(r"(\d+) requests in", out).group(1))
        if "Non-2xx" in out or requests == 0:
            sys.exit(f"error: {self.name} answered with errors:\n{out}")
        if Origin.asked != asked:
            sys.exit(f"error: {self.name} asked the origin {Origin.asked - asked} times for what it should have had")
        per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        return used / requests * 1e6, per_second


class Bench:
    """A folder, an origin and servers, which all go at the end of the `with`."""

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: told to end"))
        self.folder = tempfile.mkdtemp(prefix="tidegate-bench-")
        # Varnish and nginx give up their rights and still have to get in.
        os.chmod(self.folder, 0o755)
        self.origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        threading.Thread(target=self.origin.serve_forever, daemon=True).start()
        self.release = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release")
        self.servers = []
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name, text, **words):
        """Writes a file with some words replaced into a folder of its own."""
        home = os.path.join(self.folder, str(len(self.servers)))
        words = {**words, "ORIGIN": self.origin.server_address[1], "LUA": LUA_MODULES, "HOME": home}
        text = re.sub(r"\b(" + "|".join(words) + r")\b", lambda word: str(words[word.group()]), text)
        path = os.path.join(home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def start(self, name, command, port):
        self.servers.append(Server(name, command, port))

    def tidegate(self, name, cache):
        port = free_port()
        # A folder of its own: it is watched.
        self.write("policies/bench.lua", POLICY)
        # `cache` may have a HOME in it as well.
        config = self.write("tidegate.yaml", TIDEGATE.replace("CACHE", cache), PORT=port)
        self.start(name, [f"{self.release}/tidegate", "serve", "-c", config], port)

    def nginx(self, name, key, options=""):
        port = free_port()
        config = NGINX.replace("KEY", key).replace("OPTIONS", options)
        self.start(name, ["nginx", "-c", self.write("nginx.conf", config, PORT=port)], port)


def rounds(servers, count, measure):
    """The medians of what `measure` says of each server, measured in turn."""
    figures = {server.name: [] for server in servers}
    for _ in range(count):
        for server in servers:
            figures[server.name].append(measure(server))
    return {name: tuple(map(statistics.median, zip(*measured))) for name, measured in figures.items()}


def arguments(description):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--sizes", default="1024,102400,1048576", help="body sizes in bytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=32)
    return parser


def sizes(args):
    return [int(size) for size in args.sizes.split(",")]
