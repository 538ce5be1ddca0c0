"""Shared by the peer scripts: reads interaction lists, measures CPU time, ranks, and prints one line of JSON.

A list file has one user a line: `user item item ...`. Items are numbered from 0. With `--fold-in` the users of the
test file are ranked from the items of that file (strong generalisation); without it, from their training items.
"""

import argparse
import json
import os
import time

import numpy as np
import scipy.sparse as sparse


def read_lists(path, item_count=None):
    """Returns a users-by-items matrix of ones."""
    rows, columns = [], []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            user, *items = map(int, line.split())
            rows.extend([user] * len(items))
            columns.extend(items)
    shape = (max(rows, default=-1) + 1, item_count or max(columns, default=-1) + 1)
    matrix = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def parser(description):
    """The arguments that all peers take."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--train", required=True, help="list file to train on")
    arguments.add_argument("--test", required=True, help="list file of what is held out")
    arguments.add_argument("--fold-in", help="list file of the known items of the test users")
    arguments.add_argument("--item-count", type=int, required=True)
    arguments.add_argument("--cutoff", type=int, default=20)
    arguments.add_argument(
        "--truncated-recall",
        action="store_true",
        help="divide recall by min(cutoff, held out), as Liang et al. 2018 do, and not by all held out",
    )
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--skip-quality", action="store_true", help="only time the fit")
    return arguments


class Stopwatch:
    """CPU (user + system) and wall seconds of a `with` block."""

    def __enter__(self):
        self.wall, self.times = time.perf_counter(), os.times()
        return self

    def __exit__(self, *_):
        now = os.times()
        self.cpu_seconds = now.user + now.system - self.times.user - self.times.system
        self.wall_seconds = time.perf_counter() - self.wall


def quality(options, train, score_users):
    """Recall and NDCG over the full catalogue, known items excluded. `score_users(matrix)` gives dense scores."""
    known = read_lists(options.fold_in, options.item_count) if options.fold_in else train
    held_out = read_lists(options.test, options.item_count)
    cutoff = options.cutoff
    discounts = 1.0 / np.log2(np.arange(2, cutoff + 2))
    recalls, gains = [], []
    users = np.flatnonzero(np.diff(held_out.indptr))
    for start in range(0, len(users), 500):
        batch = users[start : start + 500]
        scores = np.array(score_users(batch, known[batch]), dtype=np.float32)
        scores[known[batch].nonzero()] = -np.inf
        best = np.argpartition(-scores, cutoff, axis=1)[:, :cutoff]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        truth = held_out[batch].toarray() > 0
        hits = np.take_along_axis(truth, best, axis=1)
        counts = truth.sum(axis=1)
        limit = np.minimum(counts, cutoff)
        recalls.extend(hits.sum(axis=1) / (limit if options.truncated_recall else counts))
        ideal = np.concatenate([[0.0], np.cumsum(discounts)])[limit]
        gains.extend((hits * discounts).sum(axis=1) / ideal)
    return {f"recall@{cutoff}": float(np.mean(recalls)), f"ndcg@{cutoff}": float(np.mean(gains))}


def report(peer, options, stopwatch, train, score_users):
    """Prints the line of JSON."""
    result = {
        "peer": peer,
        "cpu_seconds": round(stopwatch.cpu_seconds, 3),
        "wall_seconds": round(stopwatch.wall_seconds, 3),
        "threads": options.threads,
    }
    if not options.skip_quality:
        result["quality"] = quality(options, train, score_users)
    print(json.dumps(result))
