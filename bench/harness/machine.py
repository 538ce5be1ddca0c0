"""The machine that a figure was measured on."""

import os
import pathlib
import platform
import time


def _field(path, name):
    try:
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def describe():
    memory_kib = int(_field("/proc/meminfo", "MemTotal").split()[0] or 0)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "system": platform.release(),
        "load_1m": os.getloadavg()[0],
    }


def available_bytes():
    return int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024


def memory(pid):
    """Resident bytes of a process, now and at most."""
    status = f"/proc/{pid}/status"
    return tuple(int(_field(status, name).split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


def processor_seconds(pid):
    """User and system time of a process since its start."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_seconds(pid):
    """Processor time of a process and of all that it started, those that have ended among them."""
    children, spent = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        one = int(text.split(" ", 1)[0])
        children.setdefault(int(fields[1]), []).append(one)
        spent[one] = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        total += spent.get(one, 0.0)
        todo += children.get(one, [])
    return total


def fsync_milliseconds(folder, rounds=200):
    """The median and the 99th percentile of writing 4 KiB and making it durable."""
    path = pathlib.Path(folder, "fsync-probe")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    times = []
    try:
        for _ in range(rounds):
            began = time.perf_counter()
            os.write(descriptor, b"x" * 4096)
            os.fsync(descriptor)
            times.append((time.perf_counter() - began) * 1e3)
    finally:
        os.close(descriptor)
        path.unlink()
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99) - 1]
