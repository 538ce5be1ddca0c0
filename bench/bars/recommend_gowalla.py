"""The split of LightGCN, against the leaderboard of BARS for exactly this split."""

import csv

from harness import lists
from harness.evaluation import evaluate, mean, notes
from harness.figures import Figure, Measured

NAME = "recommend-gowalla"
WHAT = "Gowalla, the LightGCN split, whole catalogue ranked: the hybrid"
BAR = "Recall@20 >= 0.182, NDCG@20 >= 0.154 (LightGCN)"

# The data have no times, so that the algorithms that live on order have nothing to say.
ALGORITHMS = "neighbours,linear,factors,graph,hybrid"
COMPARED = ["SimpleX", "UltraGCN", "EASE^R", "ItemCF"]


def leaderboard(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["Model"]: (float(row["Recall@20"]), float(row["NDCG@20"])) for row in rows}


def measure(workbench):
    train, test = workbench.data("gowalla/train.txt"), workbench.data("gowalla/test.txt")
    board = leaderboard(workbench.data("gowalla/bars_leaderboard.csv"))
    algorithms = ALGORITHMS
    if workbench.quick:
        folder = workbench.folder("small")
        for path in (train, test):
            rows = ((user, items) for user, items in lists.read(path) if user < 300)
            lists.write(folder / path.name, rows)
        train, test, algorithms = folder / "train.txt", folder / "test.txt", "neighbours,factors,hybrid"
    options = ["--data", train, "--test", test, "--format", "lightgcn", "--protocol", "given"]
    report = evaluate(workbench, *options, "--algorithms", algorithms)
    recall, ndcg = (mean(report, "hybrid", measure) for measure in ("recall@20", "ndcg@20"))
    their_recall, their_ndcg = board.get("LightGCN", (0.182, 0.154))
    figures = [
        Figure("Recall@20", recall, at_least=0.182, peer=their_recall, peer_name="LightGCN, published"),
        Figure("NDCG@20", ndcg, at_least=0.154, peer=their_ndcg, peer_name="LightGCN, published"),
    ]
    for name in COMPARED:
        if name in board:
            figures.append(Figure("Recall@20", recall, peer=board[name][0], peer_name=f"{name}, published"))
            figures.append(Figure("NDCG@20", ndcg, peer=board[name][1], peer_name=f"{name}, published"))
    best = sorted(board.items(), key=lambda entry: -entry[1][0])
    lines = ["leaderboard (Recall@20 / NDCG@20):"]
    lines += [f"  {name:18} {recall:.4f} / {ndcg:.4f}" for name, (recall, ndcg) in best]
    return Measured(figures, notes(report, ["recall@20", "ndcg@20"]) + lines)
