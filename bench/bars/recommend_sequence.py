"""The next choice of each user, against what was published for the same file and protocol."""

from harness.evaluation import evaluate, mean, notes
from harness.figures import Figure, Measured

NAME = "recommend-sequence"
WHAT = "ML-1M sequences.txt, last item out, whole catalogue ranked: the hybrid"
BAR = "NDCG@10 >= 0.134, HR@10 >= 0.25 (published SASRec)"

PUBLISHED = [("SASRec", 0.25, 0.1341), ("BERT4Rec", 0.2843, 0.1537), ("SASRec with cross-entropy", 0.3152, 0.1821)]


def measure(workbench):
    data = workbench.data("ml-1m/sequences.txt")
    if workbench.quick:
        small = workbench.folder("small") / "sequences.txt"
        small.write_text("".join(data.read_text().splitlines(keepends=True)[:10_000]))
        data = small
    mapping = "user_id=#0,entity_id=#1,timestamp=@row:s"
    options = ["--data", data, "--format", "whitespace", "--map", mapping, "--protocol", "last-item-out"]
    if workbench.quick:
        options += ["--algorithms", "transitions,hybrid"]
    report = evaluate(workbench, *options)
    # Always the hybrid: to take the best row of the table would be to choose on the test part.
    ndcg, hit_rate = (mean(report, "hybrid", measure) for measure in ("ndcg@10", "hr@10"))
    figures = [
        Figure("NDCG@10", ndcg, at_least=0.134, peer=PUBLISHED[0][2], peer_name="SASRec, published"),
        Figure("HR@10", hit_rate, at_least=0.25, peer=PUBLISHED[0][1], peer_name="SASRec, published"),
    ]
    for name, their_hit_rate, their_ndcg in PUBLISHED[1:]:
        figures.append(Figure("NDCG@10", ndcg, peer=their_ndcg, peer_name=f"{name}, published"))
        figures.append(Figure("HR@10", hit_rate, peer=their_hit_rate, peer_name=f"{name}, published"))
    return Measured(figures, notes(report, ["ndcg@10", "hr@10"]))
