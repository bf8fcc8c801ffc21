"""Maps of a few images as tensors, and what the methods agree on.

python examples/explain_images.py
"""

import torch

import xbench


def main() -> None:
    """Explain two images of noise for their top class with three methods."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = {
        name: xbench.explain(images, model="reference", method=name)
        for name in ("gradcam", "integrated_gradients[n_steps=10]", "occlusion[window=16]")
    }
    for name, found in maps.items():
        print(f"{name}: shape {tuple(found.shape)}, {found.min():.3g} to {found.max():.3g}")
    flat = torch.stack([found[0].flatten() for found in maps.values()])
    print("Correlation of the first image's maps:")
    print(torch.corrcoef(flat))


if __name__ == "__main__":
    main()
