"""The split of LightGCN, against the leaderboard of BARS for exactly this split."""

import csv

from harness import lists
from harness.evaluation import evaluate, mean, notes
from harness.figures import Figure, Measured

NAME = "recommend-gowalla"
WHAT = "Gowalla, the LightGCN split, whole catalogue ranked: the hybrid, from lists in the order of time"
BAR = "Recall@20 >= 0.182, NDCG@20 >= 0.154 (LightGCN)"

# The lists have no times; each is taken to be in the order of time, with the test part later. What is judged uses that,
# which most published models do not: the hybrid that does not is told beside it. Settings are chosen on the last items of
# each user's training list.
ORDERED = ["--ordered-lists", "--tune", "--tune-budget", "12"]
ORDERED_ALGORITHMS = "neighbours,linear,factors,transitions,hybrid"
ALGORITHMS = "neighbours,linear,factors,graph,hybrid"
MEASURES = ["recall@20", "ndcg@20"]
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
    ordered = evaluate(workbench, *options, *ordered_options(workbench))
    orderless = evaluate(workbench, *options, "--algorithms", algorithms)
    recall, ndcg = (mean(ordered, "hybrid", measured) for measured in MEASURES)
    their_recall, their_ndcg = board.get("LightGCN", (0.182, 0.154))
    figures = [
        Figure("Recall@20, order used", recall, at_least=0.182, peer=their_recall, peer_name="LightGCN, published"),
        Figure("NDCG@20, order used", ndcg, at_least=0.154, peer=their_ndcg, peer_name="LightGCN, published"),
    ]
    for measured, theirs in zip(MEASURES, (their_recall, their_ndcg)):
        value = mean(orderless, "hybrid", measured)
        figures.append(Figure(f"{measured}, order not used", value, peer=theirs, peer_name="LightGCN, published"))
    for name in COMPARED:
        if name in board:
            figures.append(Figure("Recall@20", recall, peer=board[name][0], peer_name=f"{name}, published"))
            figures.append(Figure("NDCG@20", ndcg, peer=board[name][1], peer_name=f"{name}, published"))
    best = sorted(board.items(), key=lambda entry: -entry[1][0])
    lines = ["leaderboard (Recall@20 / NDCG@20):"]
    lines += [f"  {name:18} {recall:.4f} / {ndcg:.4f}" for name, (recall, ndcg) in best]
    tables = notes(ordered, MEASURES) + notes(orderless, MEASURES)
    return Measured(figures, tables + lines)


def ordered_options(workbench):
    algorithms = workbench.pick(ORDERED_ALGORITHMS, "neighbours,transitions,hybrid")
    return [*workbench.pick(ORDERED, ORDERED[:1]), "--algorithms", algorithms]
