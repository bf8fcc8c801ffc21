"""A method of 15 lines against known ones: checked, run under equal limits, judged.

python examples/compare_a_function.py [RUN_FOLDER]
"""

import sys

import torch

import xbench


def darkening(model, images, targets, steps=4):
    """Input times gradient, averaged over darker versions of the image."""
    total = torch.zeros_like(images)
    for step in range(1, steps + 1):
        point = (images * step / steps).requires_grad_(True)
        score = model(point).gather(1, targets[:, None]).sum()
        total += torch.autograd.grad(score, point)[0]
    return (images * total / steps).sum(dim=1)


def main(out: str | None = None) -> None:
    """Compare it and print where it stands."""
    found = xbench.compare(
        darkening,
        baselines="gradient,gradcam,input_x_gradient",
        metrics="deletion,rank_accuracy,class_sensitivity",
        limit=6,
        out=out,
    )
    print(f"In one word: {found.versus.verdict}.")
    for duel in found.versus.overall:
        print(f"{duel.baseline}: {duel.verdict}, Holm p = {duel.corrected:.2g}")
    print(f"The report is {found.run.path / 'report.html'}.")


if __name__ == "__main__":
    main(*sys.argv[1:2])
