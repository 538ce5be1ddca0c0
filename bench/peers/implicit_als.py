"""The ALS of `implicit` (PyPI) with its conjugate gradient solver, as a peer for speed and quality.

Needs: pip install implicit==0.7.3
"""

import peer_data
from implicit.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits


def main():
    arguments = peer_data.parser(__doc__)
    arguments.add_argument("--factors", type=int, default=64)
    arguments.add_argument("--iterations", type=int, default=15)
    arguments.add_argument("--regularization", type=float, default=0.01)
    arguments.add_argument("--alpha", type=float, default=1.0)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    train = peer_data.read_lists(options.train, options.item_count)
    model = AlternatingLeastSquares(
        factors=options.factors,
        iterations=options.iterations,
        regularization=options.regularization,
        alpha=options.alpha,
        num_threads=options.threads,
        random_state=options.seed,
        use_gpu=False,
    )
    # As its documentation advises: the BLAS must not start threads inside its own.
    with threadpool_limits(1, "blas"):
        with peer_data.Stopwatch() as stopwatch:
            model.fit(train, show_progress=False)

        def score_users(users, known):
            if options.fold_in:
                factors = model.recalculate_user(users, known)
            else:
                factors = model.user_factors[users]
            return factors @ model.item_factors.T

        peer_data.report("implicit-als", options, stopwatch, train, score_users)


if __name__ == "__main__":
    main()
