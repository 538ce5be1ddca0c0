"""Redis from Debian: one server with a password, a Sentinel set of 1 + 2 with 3 sentinels, a Cluster of 3."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import time

from ._processes import START_SECONDS, Process, apt_install, free_port, stop_all

NAME = "redis"
PASSWORD = "watershed-test"
SERVICE = "watershed"
SLOTS = 16_384


def install(cache: pathlib.Path):
    apt_install("redis-server", "redis-server")


def start(cache: pathlib.Path, folder: pathlib.Path):
    processes = []
    try:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            parts = [pool.submit(part, folder, processes) for part in (plain, sentinel_set, cluster)]
            urls = [part.result() for part in parts]
    except BaseException:
        stop_all(processes)
        raise
    environment = dict(zip(("WATERSHED_TEST_REDIS_URL", "WATERSHED_TEST_REDIS_SENTINEL_URLS",
                            "WATERSHED_TEST_REDIS_CLUSTER_URLS"), urls))
    environment["WATERSHED_TEST_REDIS_SERVER"] = shutil.which("redis-server")
    return environment, lambda: stop_all(processes)


def plain(folder, processes):
    port = server(folder, processes, "plain")
    return f"redis://:{PASSWORD}@127.0.0.1:{port}"


def sentinel_set(folder, processes):
    """URLs of the sentinels; the service and the password of the servers are in them."""
    primary = server(folder, processes, "primary")
    for name in ("replica-1", "replica-2"):
        server(folder, processes, name, "--replicaof", "127.0.0.1", primary, "--masterauth", PASSWORD,
               "--repl-diskless-sync-delay", 0)
    # Sentinels that come later find both replicas with their first question, not ten seconds later.
    wait("the replicas", lambda: "connected_slaves:2" in ask(primary, "INFO", "replication"))
    ports = [sentinel(folder, processes, f"sentinel-{number}", primary) for number in (1, 2, 3)]
    for port in ports:
        wait("the sentinels", lambda: knows_all(port))
    return ",".join(f"redis-sentinel://:{PASSWORD}@127.0.0.1:{port}/{SERVICE}" for port in ports)


def sentinel(folder, processes, name, primary):
    port = free_port()
    file = folder / f"{name}.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\nsentinel auth-pass {SERVICE} {PASSWORD}\n"
        f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
    )
    process = Process(["redis-server", file, "--sentinel"], folder / f"{name}.log")
    process.port = port
    processes.append(process)
    process.wait_until(lambda: ask(port, "PING") == "PONG")
    return port


def knows_all(port):
    state = ask(port, "SENTINEL", "MASTER", SERVICE).splitlines()
    fields = dict(zip(state[::2], state[1::2]))
    return fields.get("num-other-sentinels") == "2" and fields.get("num-slaves") == "2"


def cluster(folder, processes, has_replicas=False):
    """URLs of three primaries, each with a replica where asked for."""
    ports = [cluster_node(folder, processes, f"cluster-{number}") for number in (1, 2, 3)]
    bounds = [SLOTS * number // len(ports) for number in range(len(ports) + 1)]
    for number, port in enumerate(ports):
        ask(port, "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        bus = ask(port, "CONFIG", "GET", "cluster-port").splitlines()[1]
        for other in ports[:number]:
            ask(other, "CLUSTER", "MEET", "127.0.0.1", port, bus)
    for port in ports:
        wait("the cluster", lambda: "cluster_state:ok" in ask(port, "CLUSTER", "INFO"))
    if has_replicas:
        for primary in ports:
            add_replica(folder, processes, primary)
        for port in ports:
            wait("the replicas", lambda: ask(port, "CLUSTER", "NODES").count("slave") == len(ports))
    return ",".join(f"redis://:{PASSWORD}@127.0.0.1:{port}" for port in ports)


def replicated_cluster(folder, processes):
    return cluster(folder, processes, has_replicas=True)


def cluster_node(folder, processes, name):
    return server(folder, processes, name, "--cluster-enabled", "yes", "--cluster-config-file", f"{name}.nodes",
                  "--cluster-node-timeout", 1000, "--cluster-port", free_port(), "--masterauth", PASSWORD,
                  "--repl-diskless-sync-delay", 0)


def add_replica(folder, processes, primary):
    port = cluster_node(folder, processes, f"replica-of-{primary}")
    bus = ask(primary, "CONFIG", "GET", "cluster-port").splitlines()[1]
    ask(port, "CLUSTER", "MEET", "127.0.0.1", primary, bus)
    node = ask(primary, "CLUSTER", "MYID")
    wait("a replica", lambda: ask(port, "CLUSTER", "REPLICATE", node) == "OK")
    wait("a replica", lambda: "master_link_status:up" in ask(port, "INFO", "replication"))


def has_slot_of(port, key):
    """Whether the server has the slot of this key."""
    slot = int(ask(port, "CLUSTER", "KEYSLOT", key))
    own = [line for line in ask(port, "CLUSTER", "NODES").splitlines() if "myself,master" in line]
    ranges = [part.partition("-") for line in own for part in line.split()[8:] if not part.startswith("[")]
    return any(int(first) <= slot <= int(last or first) for first, _, last in ranges)


def move_slot(key, source, target, masters, limit_ms):
    """Moves the slot of this key from one port to another, as `redis-cli --cluster reshard` would."""
    slot = ask(source, "CLUSTER", "KEYSLOT", key)
    from_id, to_id = ask(source, "CLUSTER", "MYID"), ask(target, "CLUSTER", "MYID")
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
    while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100).splitlines():
        ask(source, "MIGRATE", "127.0.0.1", target, "", 0, limit_ms, "AUTH", PASSWORD, "KEYS", *keys)
    for port in [target, source, *masters]:
        ask(port, "CLUSTER", "SETSLOT", slot, "NODE", to_id)


def server(folder, processes, name, *options):
    port = free_port()
    own = folder / name
    own.mkdir()
    process = Process(
        ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", own, "--save", "", "--appendonly", "no",
         "--requirepass", PASSWORD, *options],
        folder / f"{name}.log",
    )
    process.port = port
    processes.append(process)
    process.wait_until(lambda: ask(port, "PING") == "PONG")
    return port


def ask(port, *command):
    """The answer as `redis-cli` prints it; empty where the server does not answer yet."""
    arguments = ["redis-cli", "-p", port, "--raw", *command]
    environment = {**os.environ, "REDISCLI_AUTH": PASSWORD}
    asked = subprocess.run([str(part) for part in arguments], env=environment, capture_output=True, text=True)
    return asked.stdout.strip()


def wait(what, holds):
    end = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} are not ready after {START_SECONDS} s")
        time.sleep(0.05)
