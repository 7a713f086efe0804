"""Runs each server on one processor under the same load, and prints what a request costs it; see harness.py."""

import harness

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


def main():
    args = harness.arguments(__doc__).parse_args()
    with harness.Bench() as bench:
        bench.tidegate("Tidegate, policy on", "{ memory: { capacity: 1GiB, max_object: 8MiB } }")
        bench.nginx("nginx + Lua, proxy_cache", harness.NGINX_LUA)
        port = harness.free_port()
        vcl = bench.write("bench.vcl", VCL)
        command = ["varnishd", "-F", "-f", vcl, "-a", f"127.0.0.1:{port}", "-s", "malloc,1g", "-n", f"{bench.folder}/v"]
        command += ["-p", "thread_pools=1", "-p", "thread_pool_min=50"]
        bench.start("Varnish, VCL", command, port)
        port = harness.free_port()
        bench.start("Pingora, a constant", [f"{bench.release}/examples/constant", f"127.0.0.1:{port}"], port)

        print("| body | server | µs of processor time a request | to Tidegate | requests/s |")
        print("|---|---|---|---|---|")
        for size in harness.sizes(args):
            contenders = [s for s in bench.servers if size == 1024 or not s.name.startswith("Pingora")]

            def measure(server):
                path = f"/{size}?v=3&utm=1"
                for _ in range(3):
                    server.get(path).read()
                return server.load(path, args.seconds, args.connections)

            medians = harness.rounds(contenders, args.rounds, measure)
            own, _ = medians[bench.servers[0].name]
            for name, (cpu, per_second) in medians.items():
                print(f"| {size} | {name} | {cpu:.1f} | {own / cpu:.2f} | {per_second:.0f} |", flush=True)


main()
