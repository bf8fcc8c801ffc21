"""Four methods and two controls on planted scenes: who may be trusted, in one page.

python examples/small_grid.py [RUN_FOLDER]
"""

import sys

import xbench


def main(out: str | None = None) -> None:
    """Run a small grid and print what it says."""
    run = xbench.run(
        "reference",
        "planted",
        methods="gradient,gradcam,integrated_gradients[n_steps=20],guided_backprop,random,edges",
        metrics="deletion,insertion,cascading_randomization,rank_accuracy,sparseness",
        limit=8,
        out=out,
    )
    board = run.leaderboard().frame()
    print(board[["method", "deletion", "insertion", "rank_accuracy", "calls"]].to_string())
    print(f"The report is {run.path / 'report.html'}.")


if __name__ == "__main__":
    main(*sys.argv[1:2])
