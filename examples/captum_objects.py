"""Attribution objects of captum beside methods of xbench, on a network of one's own.

python examples/captum_objects.py [RUN_FOLDER]
"""

import sys

import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from torch import nn

import xbench


def network() -> nn.Module:
    """Any module that returns logits; this one is not trained."""
    torch.manual_seed(0)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 6))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), pool)


def main(out: str | None = None) -> None:
    """Run them in one grid."""
    module = network()
    windows = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 16, 16)}
    occlusion = xbench.as_method(Occlusion(module), "captum_occlusion", **windows)
    run = xbench.run(
        module,
        methods=[IntegratedGradients(module), Saliency, occlusion, "gradient", "random"],
        metrics="deletion,cascading_randomization",
        limit=3,
        out=out,
    )
    print(run.leaderboard().frame()[["method", "deletion", "calls"]].to_string())
    print(f"The report is {run.path / 'report.html'}.")


if __name__ == "__main__":
    main(*sys.argv[1:2])
