import numpy as np
import pytest
import torch
from skimage.feature import hog
from skimage.metrics import structural_similarity

from xbench.operations import similarity
from xbench.streams import Streams


@pytest.fixture(params=[(33, 47), (11, 12), (64, 64)])
def pair(request):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, *request.param, generator=generator)
    return first, (first + 0.5 * torch.rand(3, *request.param, generator=generator)) / 1.5


def test_ssim_agrees_with_scikit_image(pair):
    found = similarity.ssim(*pair)
    for value, a, b in zip(found, *pair, strict=True):
        expected = structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert value.item() == pytest.approx(expected, abs=1e-5)


def test_ssim_is_one_for_equal_images_and_undefined_for_constant_or_small_ones(pair):
    first, _ = pair
    assert torch.allclose(similarity.ssim(first, first), torch.ones(3).double())
    assert similarity.ssim(first, torch.full_like(first, 0.3)).isnan().all()
    assert similarity.ssim(torch.rand(2, 10, 40), torch.rand(2, 10, 40)).isnan().all()


def test_quantile_agrees_with_numpy(pair):
    flat = pair[0].flatten(1)
    expected = np.quantile(flat.numpy(), 0.99, axis=1)
    assert np.allclose(similarity.quantile(flat, 0.99).numpy(), expected, atol=1e-6)


def test_unit_scale_clips_outliers_and_ignores_sign_and_scale(pair):
    first, _ = pair
    scaled = similarity.unit_scale(first)
    assert scaled.amin() >= 0
    assert scaled.flatten(1).amax(dim=1).tolist() == [1.0] * 3
    assert torch.allclose(similarity.unit_scale(-7 * first), scaled, atol=1e-6)
    sparse = torch.zeros(1, 20, 20)
    sparse[0, 3, 4] = 5
    assert not similarity.unit_scale(sparse).any()


def test_hog_descriptors_are_those_of_scikit_image():
    maps = torch.rand(2, 64, 80, generator=torch.Generator().manual_seed(3))
    found = similarity.hog_descriptors(maps)
    expected = hog(
        similarity.unit_scale(maps)[1].numpy(),
        orientations=9,
        pixels_per_cell=(16, 16),
        cells_per_block=(3, 3),
    )
    assert np.allclose(found[1].numpy(), expected)
    assert similarity.hog_similarity(maps, maps).tolist() == pytest.approx([1.0, 1.0])
    assert similarity.hog_similarity(maps, maps.flip(2)).max() < 0.5
    assert torch.isfinite(similarity.hog_similarity(maps[:, :9, :13], maps[:, 1:10, :13])).all()


def test_top_overlap_counts_shared_pixels():
    streams = Streams(0, ["a"], "test")
    first = torch.arange(100.0).view(1, 10, 10)
    shifted = first.flatten(1).roll(5).view(1, 10, 10)
    assert similarity.top_overlap(first, first, 0.1, streams).item() == 1
    assert similarity.top_overlap(first, shifted, 0.1, streams).item() == pytest.approx(5 / 15)
    assert similarity.top_overlap(first, torch.ones_like(first), 0.1, streams).isnan().all()


def test_tied_maps_overlap_by_chance_only():
    streams = Streams(0, [str(i) for i in range(200)], "test")
    sparse = torch.zeros(200, 20, 20)
    sparse[:, 0, 0] = 1
    found = similarity.top_overlap(sparse, sparse, 0.1, streams)
    assert found.mean().item() == pytest.approx(0.1 / 1.9, abs=0.03)
