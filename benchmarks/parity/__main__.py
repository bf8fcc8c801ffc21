"""Writes docs/parity.md: where a metric here deviates from Quantus, why, and a figure of both.

Every figure is computed when this runs, on the embedded classifier and planted images, with the
gradient as the method. Run from the root: `.venv/bin/python benchmarks/parity`.
"""

import logging
import warnings
from pathlib import Path

import faithfulness  # noqa: F401 - enters its rows
import numpy as np
import others  # noqa: F401 - enters its rows
import quantus
import torch
from harness import IMAGES, ROWS

HEADER = """# Parity with Quantus

Written by `benchmarks/parity`; every figure is computed by running both, on the embedded
classifier and {images} planted images of 64 x 64 pixels with the gradient as the method
(Quantus {version}, numpy {numpy}, torch {torch}).

## Equal

Tests run Quantus itself and ask for agreement to 1e-4:

- `tests/test_metrics_adapters.py`: `sparseness`, `complexity`, `effective_complexity` (times the
  pixels), `rank_accuracy`, `mask_auc` (its AUC), `top_k_intersection` (k as a share),
  `pointing_game` (without tolerance and ties), `mass_accuracy` (maps without negative values);
- `tests/test_metrics_faithfulness_quantus.py`: faithfulness;
- `tests/test_parity_quantus_sensitivity.py`: robustness and randomization.

`quantus:NAME[...]` runs any of its metrics as it is, one image at a time.

## Deviations

| Quantus | here | why | figure |
|---|---|---|---|
"""


def main() -> None:
    """Write the page."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # noqa: NPY201
    text = HEADER.format(
        images=IMAGES, version=quantus.__version__, numpy=np.__version__, torch=torch.__version__
    )
    for their_name, our_name, reason, figure in ROWS:
        names = ", ".join(f"`{name}`" for name in our_name.split(", "))
        text += f"| {their_name} | {names} | {reason} | {figure().replace('|', '/')} |\n"
        print(text.splitlines()[-1], flush=True)
    Path("docs/parity.md").write_text(text)


if __name__ == "__main__":
    main()
