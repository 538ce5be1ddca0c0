"""Shared by the rows that time a fit: the lists, and ours beside a peer in turns."""

from harness import lists
from harness.figures import Figure, Measured
from harness.fitting import in_turns, ours, peer


def ml1m(workbench):
    """Train and test lists of ML-1M, without and with the last item of each user."""
    train, test, count = lists.last_item_out(workbench.data("ml-1m/sequences.txt"), workbench.folder("lists"))
    return {"train": train, "test": test, "item_count": count}


def gowalla(workbench):
    train, test = workbench.data("gowalla/train.txt"), workbench.data("gowalla/test.txt")
    return {"train": train, "test": test, "item_count": lists.item_count(train, test)}


def smaller(workbench, data):
    """The first users only, for a quick run."""
    folder = workbench.folder("small")
    for name in ("train", "test"):
        rows = ((user, items) for user, items in lists.read(data[name]) if user < 200)
        lists.write(folder / f"{name}.txt", rows)
    count = lists.item_count(folder / "train.txt", folder / "test.txt")
    return {"train": folder / "train.txt", "test": folder / "test.txt", "item_count": count}


def als(workbench, data):
    """64 factors, 15 iterations, 3 conjugate gradient steps, which is what both do by default."""
    data = smaller(workbench, data) if workbench.quick else data
    mine, theirs = in_turns(
        workbench.pick(3, 1),
        lambda: ours(workbench, "als", {"factor_count": 64, "iterations": 15}, **data),
        lambda: peer(workbench, "implicit_als.py", "--factors", "64", "--iterations", "15", **data),
    )
    return compared(mine, theirs, "implicit 0.7.3")


def compared(mine, theirs, name):
    """Processor time with its bar, and quality, so that nobody is fast by doing less."""
    figures = [
        Figure("CPU to fit", mine["median"], "s", at_most=theirs["median"], peer=theirs["median"], peer_name=name),
        Figure("wall to fit", mine["wall_seconds"], "s", peer=theirs["wall_seconds"], peer_name=name),
    ]
    for measure, value in mine["quality"].items():
        other = theirs["quality"][measure]
        figures.append(Figure(measure, value, at_least=0.99 * other, peer=other, peer_name=name))
    lines = [f"CPU seconds of each run: ours {mine['all_cpu_seconds']}, {name} {theirs['all_cpu_seconds']}"]
    return Measured(figures, lines + ["both on one thread, in turns"])
