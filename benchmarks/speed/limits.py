"""Rows against the limit: the calls that a protocol needs, times the time of one plain call."""

from functools import partial

from bench import LAYER, Bench
from rows import ROWS, Row, Work

NEAR = 1.15
SURROGATE = 1.3  # segmentation included


def _metrics(
    labels: tuple[str, ...], count: int, bench: Bench, methods: tuple[str, ...] = ("gradient",)
) -> Work:
    what = f"{' + '.join(labels)} of {', '.join(methods)}, {count} image{'s' if count > 1 else ''}"
    return Work(bench.metrics(labels, count, methods), what)


def _method(label: str, count: int, bench: Bench) -> Work:
    what = f"{label}, {count} image{'s' if count > 1 else ''}"
    return Work(bench.method(label, count), what)


for _name, _labels, _count in (
    ("Deletion + insertion", ("deletion", "insertion"), 4),
    ("ROAD", ("road",), 8),
    ("Faithfulness correlation", ("faithfulness_correlation[draws=50]",), 4),
    ("Sensitivity-n", ("sensitivity_n[sizes=4,subsets=50]",), 1),
    ("Max sensitivity", ("max_sensitivity[draws=5]",), 8),
    ("Cascading randomization", ("cascading_randomization",), 16),
):
    ROWS.append(Row(_name, NEAR, "limit", partial(_metrics, _labels, _count)))

_THREE = ("gradient", "input_x_gradient", "gradcam")
ROWS.append(
    Row(
        "Cascading randomization, three methods of a run",
        NEAR,
        "limit",
        partial(_metrics, ("cascading_randomization",), 16, methods=_THREE),
    )
)

for _name, _goal, _label, _count in (
    ("Occlusion", NEAR, "occlusion", 1),
    ("RISE", NEAR, "rise[n_masks=200]", 1),
    ("Score-CAM", NEAR, f"scorecam[layer={LAYER}]", 1),
    ("Integrated gradients", NEAR, "integrated_gradients[n_steps=25]", 2),
    ("SmoothGrad", NEAR, "smoothgrad[n_samples=25]", 2),
    ("LIME", SURROGATE, "lime[n_samples=400]", 1),
    ("KernelSHAP", SURROGATE, "kernelshap[n_samples=400]", 1),
    ("Ablation-CAM from the last block", None, f"ablationcam[layer={LAYER}]", 2),
):
    ROWS.append(Row(_name, _goal, "limit", partial(_method, _label, _count)))
