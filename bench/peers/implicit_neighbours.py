"""The item-based nearest neighbours of `implicit` (PyPI), as a peer for speed and quality.

Needs: pip install implicit==0.7.3
"""

import peer_data
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from threadpoolctl import threadpool_limits


def main():
    arguments = peer_data.parser(__doc__)
    arguments.add_argument("--weighting", choices=["cosine", "tfidf", "bm25"], default="bm25")
    arguments.add_argument("--neighbours", type=int, default=100)
    arguments.add_argument("--k1", type=float, default=1.2)
    arguments.add_argument("--b", type=float, default=0.75)
    options = arguments.parse_args()
    train = peer_data.read_lists(options.train, options.item_count)
    # It counts each item among its own neighbours.
    count = options.neighbours + 1
    if options.weighting == "bm25":
        model = BM25Recommender(K=count, K1=options.k1, B=options.b, num_threads=options.threads)
    elif options.weighting == "tfidf":
        model = TFIDFRecommender(K=count, num_threads=options.threads)
    else:
        model = CosineRecommender(K=count, num_threads=options.threads)
    with threadpool_limits(options.threads, "blas"):
        with peer_data.Stopwatch() as stopwatch:
            model.fit(train, show_progress=False)

        def score_users(_, known):
            return (known @ model.similarity).toarray()

        peer_data.report(f"implicit-{options.weighting}", options, stopwatch, train, score_users)


if __name__ == "__main__":
    main()
