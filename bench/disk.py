"""Compares hits on disk whose files the system has in memory: one that all ask for, and many in turn; see harness.py.

Tidegate has its memory tier off, so that each hit comes from a file, and checks every piece that it reads. nginx has its
cache on disk anyway; it sends files by sendfile, and checks nothing.
"""

import http.client
import os
import shutil
import sys

import harness

QUERY = "?v=3&utm=1"

# A cache of open files that holds all of them, and never looks whether they changed while it is measured.
OPEN_FILES = "open_file_cache max=8192 inactive=600m; open_file_cache_valid 600m;"

TIDEGATE = "{ memory: { capacity: 0 }, disk: { path: HOME/cache, capacity: 16GiB, promote_after: 0, min_free: 0, max_open: OPEN } }"


def available_memory():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))


def is_from_disk(server, response):
    # What nginx says is that it did not ask the origin, which `load` sees.
    return not server.name.startswith("Tidegate") or 'detail="disk"' in (response.getheader("Cache-Status") or "")


def fill(server, paths):
    """Fetches them until each comes from disk."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for _ in range(10):
        missing = []
        for path in paths:
            # The second answer comes from what the first one left.
            for again in range(2):
                connection.request("GET", path, headers=harness.headers())
                response = connection.getresponse()
                response.read()
            if not is_from_disk(server, response):
                missing.append(path)
        if not missing:
            return
        paths = missing
    sys.exit(f"error: {server.name} does not serve {missing[0]} from disk: {response.getheader('Cache-Status')}")


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--objects", type=int, default=2000, help="how many are asked for in turn")
    args = parser.parse_args()
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "round_robin.lua")
    with harness.Bench() as bench:
        for most in (1024, 8192):
            bench.tidegate(f"Tidegate, policy on, max_open {most}", TIDEGATE.replace("OPEN", str(most)))
        for name, key in (("nginx", harness.NGINX_PLAIN), ("nginx + Lua", harness.NGINX_LUA)):
            bench.nginx(f"{name}, no open_file_cache", key)
            bench.nginx(f"{name}, open_file_cache", key, OPEN_FILES)

        print("| body | asked for | server | µs of processor time a request | to Tidegate | requests/s |")
        print("|---|---|---|---|---|---|")
        for size in harness.sizes(args):
            # All of them have to be in memory, those of each server.
            room = min(available_memory() // 2, shutil.disk_usage(bench.folder).free - (1 << 30))
            objects = min(args.objects, room // len(bench.servers) // (size + 8192))
            if objects < 1:
                sys.exit(f"error: {room >> 20} MiB of memory or disk are too few for objects of {size} bytes")
            for server in bench.servers:
                fill(server, [f"/{size}/{i}{QUERY}" for i in range(objects)])
            patterns = (
                ("one object", lambda server: server.load(f"/{size}/0{QUERY}", args.seconds, args.connections)),
                (
                    f"{objects} in turn",
                    lambda server: server.load(f"/{size}", args.seconds, args.connections, script, (objects, QUERY)),
                ),
            )
            for pattern, measure in patterns:
                medians = harness.rounds(bench.servers, args.rounds, measure)
                own, _ = medians[bench.servers[0].name]
                for name, (cpu, per_second) in medians.items():
                    print(f"| {size} | {pattern} | {name} | {cpu:.1f} | {own / cpu:.2f} | {per_second:.0f} |", flush=True)


main()
