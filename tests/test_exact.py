"""Closed-form networks: formulas against brute force, and the table of methods by structure."""

import itertools
import math

import pytest
import torch

from xbench.classifier import Classifier
from xbench.contracts import Geometry
from xbench.errors import DataError, ParameterError, UnknownNameError
from xbench.exact_table import (
    TRUTH,
    correlations,
    exact_markdown,
    exact_table,
    relevant_found,
)
from xbench.models.exact import (
    STRUCTURES,
    exact_case,
    exact_classifier,
    gather,
    linear_weights,
    spread,
)
from xbench.models.loading import load_classifier
from xbench.registry import DATASETS, METHODS


def brute_force(
    model: Classifier, image: torch.Tensor, target: int, grid: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapley values and non-null players by the definition: every coalition of cells is run."""
    players = grid * grid
    coalitions = torch.tensor(list(itertools.product([False, True], repeat=players)))
    keep = spread(coalitions.view(-1, grid, grid))[:, None]
    worth = model.logits(torch.where(keep, image[None], torch.tensor(0.5)))[:, target].double()
    index = {tuple(row): i for i, row in enumerate(coalitions.tolist())}
    phi = torch.zeros(players, dtype=torch.float64)
    matters = torch.zeros(players, dtype=torch.bool)
    for row, i in index.items():
        size = sum(row)
        for player in range(players):
            if not row[player]:
                joined = index[(*row[:player], True, *row[player + 1 :])]
                gain = worth[joined] - worth[i]
                weight = math.factorial(size) * math.factorial(players - size - 1)
                phi[player] += weight / math.factorial(players) * gain
                matters[player] |= bool(gain.abs() > 1e-5)
    return phi.view(grid, grid), matters.view(grid, grid)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_formulas_agree_with_all_coalitions(structure: str) -> None:
    grid = 3  # 512 coalitions; the formulas do not depend on the grid
    model = exact_classifier(structure, grid=grid, batch_size=128)
    case = exact_case(structure, [0, 1], grid=grid)
    for i in range(2):
        phi, matters = brute_force(model, case.images[i], int(case.targets[i]), grid)
        assert torch.allclose(case.cells[i], phi, atol=2e-6)
        assert torch.equal(case.relevant[i], matters)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_values_sum_to_the_logit_difference_and_are_not_degenerate(structure: str) -> None:
    model = exact_classifier(structure, batch_size=64)
    case = exact_case(structure, list(range(24)))
    gray = torch.full_like(case.images, 0.5)
    rows = torch.arange(24)
    gain = (model.logits(case.images) - model.logits(gray))[rows, case.targets]
    assert torch.allclose(case.cells.sum(dim=(1, 2)).float(), gain, atol=1e-5)
    assert torch.allclose(gather(case.maps), case.cells, atol=1e-6)
    if structure == "blind":
        assert case.cells.abs().max() == 0
        assert not case.relevant.any()
    else:
        assert (case.cells.flatten(1).std(dim=1) > 0).all()
        assert case.relevant.flatten(1).any(dim=1).all()
        assert not case.relevant.flatten(1).all(dim=1).any()


def test_a_saturated_sum_has_no_gradient_and_xor_a_wrong_one() -> None:
    case = exact_case("saturating", list(range(4)))
    model = exact_classifier("saturating", batch_size=4)
    assert model.gradients(case.images, case.targets).abs().max() < 1e-6
    xor = exact_case("xor", list(range(4)))
    slope = gather(exact_classifier("xor", batch_size=4).gradients(xor.images, xor.targets).sum(1))
    assert (xor.cells[xor.relevant] > 0).all()
    assert (slope[xor.relevant] < 0).all()


def test_places_ask_for_the_class() -> None:
    case = exact_case("places", [0, 1])
    assert case.targets.tolist() == [0, 1]
    assert case.relevant[0, 0, 0]
    assert case.relevant[1, 2, 0]
    assert case.relevant.sum() == 2


def test_linear_weights_mask_some_cells_and_have_both_signs() -> None:
    weights = linear_weights()
    assert (weights == 0).sum() >= 4
    assert weights.min() < 0 < weights.max()


def test_images_depend_on_their_number_alone() -> None:
    many, one = exact_case("color", list(range(5))), exact_case("color", [3])
    assert torch.equal(many.images[3], one.images[0])
    other = exact_case("color", [3], seed=1)
    assert not torch.equal(other.images, one.images)
    assert 0 <= many.images.min() <= many.images.max() <= 1


def test_the_source_carries_the_truth_and_refuses_other_networks() -> None:
    dataset = DATASETS.create("planted-exact:and").value
    model = load_classifier("exact:and", device="cpu", batch_size=8)
    source = dataset.open(model.geometry, limit=6, seed=0, classes=2)
    samples = source.read([0, 5])
    assert samples.ids == ["exact-and-000000", "exact-and-000005"]
    assert samples.images.shape == (2, 3, 32, 32)
    assert samples.truth.flatten(1).sum(dim=1).tolist() == [128, 128]
    blind = DATASETS.create("planted-exact:blind").value
    samples = blind.open(Geometry(), limit=2, seed=0).read([0, 1])
    assert samples.truth_defined.tolist() == [False, False]
    assert source.read([]).images.shape == (0, 3, 32, 32)
    with pytest.raises(DataError, match="exact:and"):
        dataset.open(Geometry(crop=(224, 224)), limit=2, seed=0)
    with pytest.raises(ParameterError, match="planted-exact"):
        DATASETS.create("planted-exact:nand")
    with pytest.raises(UnknownNameError, match="nand"):
        load_classifier("exact:nand", device="cpu", batch_size=8)


def test_correlation_of_a_flat_map_is_undefined() -> None:
    flat = torch.full((1, 4), 0.3)
    other = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert correlations(flat, other).isnan().all()
    assert correlations(-2 * other + 1, other).item() == pytest.approx(-1)


def test_ties_find_the_expected_share() -> None:
    relevant = torch.tensor([[True, False, False, False]])
    assert relevant_found(torch.zeros(1, 4), relevant).item() == pytest.approx(0)
    assert relevant_found(torch.tensor([[0.0, 1, 0, 0]]), relevant).item() == pytest.approx(-1 / 3)
    half = relevant_found(torch.tensor([[1.0, 1, 0, 0]]), relevant).item()
    assert half == pytest.approx((0.5 - 0.25) / 0.75)


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], object]:
    chosen = METHODS.select(
        "random,gradient,input_x_gradient,integrated_gradients[n_steps=16],cam,occlusion"
    )
    return {(row.structure, row.method): row for row in exact_table(chosen, images=24)}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_truth_is_perfect_and_random_is_nothing(structure: str, rows: dict) -> None:
    truth, random = rows[structure, TRUTH], rows[structure, "random"]
    assert truth.correlation[0] == pytest.approx(1)
    assert truth.found[0] == pytest.approx(1)
    assert random.correlation[1] <= 0 <= random.correlation[2]
    assert random.found[1] <= 0 <= random.found[2]


def test_the_table_shows_what_theory_says(rows: dict) -> None:
    path = "integrated_gradients[n_steps=16]"
    for structure in ("linear", "distractor", "color", "places"):
        assert rows[structure, path].correlation[0] == pytest.approx(1, abs=1e-4)
        assert rows[structure, "input_x_gradient"].correlation[0] == pytest.approx(1, abs=1e-4)
    # Saturation: the gradient is zero, the path is not.
    assert rows["saturating", "gradient"].undefined == 24
    assert rows["saturating", "gradient"].found[0] == pytest.approx(0)
    assert rows["saturating", path].correlation[0] > 0.95
    assert rows["linear", "gradient"].correlation[0] < 0.9
    assert rows["blind", path].correlation[0] == 1
    assert "one linear layer" in rows["and", "cam"].reason


def test_the_markdown_table_has_every_method_and_structure(rows: dict) -> None:
    lines = exact_markdown(list(rows.values())).splitlines()
    assert lines[0].count("|") == len(STRUCTURES) + 2
    assert lines[2].startswith("| truth | 1.00 / 1.00 |")
    by_method = {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}
    assert set(by_method) == {method for _, method in rows}
    assert "flat / 0.00" in by_method["gradient"]
    assert "–" in by_method["cam"]
