"""`xbench new` and `xbench check`, own catalogues, objects of other libraries, the Python API."""

import subprocess
import sys
from pathlib import Path

import nets
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from xbench.classifier import Classifier
from xbench.cli import app
from xbench.conformance import check
from xbench.errors import ParameterError, XbenchError
from xbench.explaining import explain
from xbench.models.loading import load_classifier
from xbench.plugins.catalogues import REGISTRIES, use_catalogue
from xbench.plugins.foreign import foreign_metric
from xbench.plugins.loading import as_class, enter
from xbench.running.session import open_run
from xbench.user_files import IN_USE


@pytest.fixture(autouse=True)
def _registries_as_they_were():
    for registry in REGISTRIES:
        registry.discover()
    before = [dict(registry._entries) for registry in REGISTRIES]
    modules, catalogues = set(sys.modules), list(IN_USE)
    yield
    IN_USE[:] = catalogues
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)
    for name in set(sys.modules) - modules:
        if name.startswith("_xbench_user_"):
            del sys.modules[name]


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("kind", ["method", "metric", "dataset", "board", "probe", "model"])
def test_a_new_file_conforms_as_it_is(kind: str, tmp_path: Path) -> None:
    result = call("new", kind, f"my_{kind}", "--into", tmp_path)
    assert result.exit_code == 0, result.output
    folder = "leaderboards" if kind == "board" else f"{kind}s"
    path = tmp_path / folder / f"my_{kind}.py"
    result = call("check", path)
    assert result.exit_code == 0, result.output
    assert "in order" in result.stdout
    again = call("new", kind, f"my_{kind}", "--into", tmp_path)
    assert again.exit_code == 2
    assert "already" in again.stderr


def test_the_test_that_comes_with_it_passes(tmp_path: Path) -> None:
    call("new", "board", "own_board", "--into", tmp_path)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout


def test_wrong_names_and_kinds_are_sentences(tmp_path: Path) -> None:
    assert "take one of method" in call("new", "thing", "x", "--into", tmp_path).stderr
    assert "is no name" in call("new", "method", "My-Method", "--into", tmp_path).stderr
    taken = call("new", "method", "gradcam", "--into", tmp_path).stderr
    assert "There is a method 'gradcam' already" in taken


BREAKS = {
    "method": ('forwards="1"', 'forwards="3"', "spends 1 forwards"),
    "metric": ('direction="higher"', 'direction="lower"', "does not put the truth"),
    "dataset": ("truth[row].float()", "255 * truth[row].float()", "outside [0, 1]"),
    "board": ('"controls", "valid"', '"controls", "vaild"', "names the gate 'vaild'"),
    "probe": ("light goes?", "light goes.", "end with a question mark"),
    "model": ("nn.Linear(8, 3)", "nn.Linear(9, 3)", "cannot take an image of 3 x 64 x 64"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_check_finds_what_is_broken(kind: str, tmp_path: Path) -> None:
    call("new", kind, f"broken_{kind}", "--into", tmp_path)
    path = next(tmp_path.glob(f"*/broken_{kind}.py"))
    old, new, expected = BREAKS[kind]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    result = call("check", path)
    assert result.exit_code == 1, result.output
    assert expected in result.stdout


WRONG = {
    "shape": (
        "summed.sign() * summed.abs() ** self.power",
        "model.gradients(images, targets)",
        "one value a pixel at input resolution",
    ),
    "nan": ("summed.sign() *", "(0 * summed).log() *", "guard divisions and logarithms"),
    "card": ("card: ClassVar", "about: ClassVar", "has no card; set `card ="),
    "taken": ('name="wrong_taken"', 'name="gradcam"', "rename one of them"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_class_is_told_what_to_change(kind: str, tmp_path: Path) -> None:
    call("new", "method", f"wrong_{kind}", "--into", tmp_path)
    path = tmp_path / "methods" / f"wrong_{kind}.py"
    old, new, expected = WRONG[kind]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    result = call("check", path)
    assert result.exit_code in (1, 2), result.output
    assert expected in " ".join((result.stdout + result.stderr).split())


def test_a_metric_that_leaves_its_range_or_depends_on_neighbors(tmp_path: Path) -> None:
    call("new", "metric", "social", "--into", tmp_path)
    path = tmp_path / "metrics" / "social.py"
    text = path.read_text().replace("Scores.of(hits,", "Scores.of(hits / hits.mean() + 2,")
    path.write_text(text)
    found = call("check", path).stdout
    assert "leaves its range" in found
    assert "depends on the neighbors" in found


def test_a_catalogue_with_helpers_and_relative_imports_runs(tmp_path: Path) -> None:
    call("new", "method", "cat_method", "--into", tmp_path)
    folder = tmp_path / "methods"
    (folder / "_helper.py").write_text("def twice(x):\n    return 2 * x\n")
    path = folder / "cat_method.py"
    text = path.read_text().replace(
        "from xbench.streams import Streams",
        "from xbench.streams import Streams\n\nfrom ._helper import twice",
    )
    path.write_text(text.replace("return summed.sign()", "return twice(summed).sign()"))
    result = call(
        "run", "--catalogue", tmp_path, "--methods", "cat_method,random", "--metrics",
        "sparseness", "--limit", "2", "--batch-size", "4", "-q", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "cat_method" in (tmp_path / "run" / "leaderboard.md").read_text().replace("\\", "")


def test_a_catalogue_that_is_none_or_broken(tmp_path: Path) -> None:
    with pytest.raises(XbenchError, match="is no catalogue"):
        use_catalogue(tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "bad.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(XbenchError, match=r"bad\.py' cannot be imported \(ModuleNotFoundError"):
        use_catalogue(tmp_path)


def test_probes_and_models_of_a_catalogue_are_known_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("new", "probe", "own_light", "--into", tmp_path)
    call("new", "model", "own_net", "--into", tmp_path)
    assert "own_light" not in call("probes").stdout
    assert "own_light" in call("probes", "--catalogue", tmp_path).stdout
    (tmp_path / "study.toml").write_text(
        'title = "Light"\nquestion = "Does it hold?"\nmodel = "own_net"\nimages = "planted"\n'
        'limit = 2\n[[part]]\nprobe = "own_light"\nwith = { steps = 2 }\n'
    )
    result = call(
        "study", tmp_path / "study.toml", "--catalogue", tmp_path, "--batch-size", "4",
        "--out", tmp_path / "exhibit",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "confidence falls" in (tmp_path / "exhibit" / "index.html").read_text()
    monkeypatch.setenv("XBENCH_CATALOGUE", str(tmp_path))
    assert "own_net" in call("models").stdout, "the variable holds for every command"
    monkeypatch.setenv("XBENCH_CATALOGUE", str(tmp_path / "nowhere"))
    wrong = call("models")
    assert wrong.exit_code == 2
    assert "is no catalogue" in wrong.stderr


def test_a_model_whose_name_is_taken_or_unknown(tmp_path: Path) -> None:
    assert "There is a model 'reference' already" in call(
        "new", "model", "reference", "--into", tmp_path
    ).stderr  # fmt: skip
    call("new", "model", "own_net", "--into", tmp_path)
    use_catalogue(tmp_path)
    with pytest.raises(XbenchError, match="Did you mean own_net"):
        load_classifier("own_nett")
    (tmp_path / "models" / "reference.py").write_text("")
    with pytest.raises(XbenchError, match=r"rename models/reference\.py"):
        use_catalogue(tmp_path)


def test_an_entry_point_brings_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packaged_nets.py").write_text(
        "from torch import nn\ndef small():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), {'crop': 16}\n"
    )
    info = tmp_path / "packaged_nets-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packaged-nets\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[xbench.models]\npackaged = packaged_nets:small\nlost = packaged_nets:big\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_classifier("packaged", batch_size=2).geometry.crop == (16, 16)
    with pytest.raises(XbenchError, match="'lost' of an installed package cannot be imported"):
        load_classifier("lost")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return nets.build(nets.SmallCNN)


def captum_objects(module: nn.Module) -> dict[str, object]:
    attr = pytest.importorskip("captum.attr")
    return {
        "IntegratedGradients": attr.IntegratedGradients(module),
        "Saliency": attr.Saliency,
        "LayerGradCam": attr.LayerGradCam(module, module.features[4]),
        "GuidedBackprop": attr.GuidedBackprop(module),
        "NoiseTunnel": attr.NoiseTunnel(attr.Saliency(module)),
        "DeepLift": attr.DeepLift(module),
    }


@pytest.mark.parametrize(
    "name",
    [
        "IntegratedGradients",
        "Saliency",
        "LayerGradCam",
        "GuidedBackprop",
        "NoiseTunnel",
        "DeepLift",
    ],
)
def test_captum_objects_conform_as_they_are(name: str, module: nn.Module) -> None:
    model, images = Classifier(module, batch_size=8), nets.pictures(3)
    chosen = enter(as_class(captum_objects(module)[name]), model, images)
    assert chosen.label == f"captum_{name}"
    assert check(chosen, model, images) == []


def test_captum_maps_are_captums(module: nn.Module) -> None:
    attr = pytest.importorskip("captum.attr")
    model, images = Classifier(module, batch_size=8), nets.pictures(3)
    chosen = enter(as_class(attr.IntegratedGradients(module)), model, images)
    targets = torch.tensor([0, 1, 2])
    maps = explain(images, model=model, method=chosen.value, targets=targets)
    expected = attr.IntegratedGradients(module).attribute(images, target=targets).sum(dim=1)
    torch.testing.assert_close(maps, expected.float(), rtol=1e-4, atol=1e-6)


def test_a_captum_object_over_a_function_is_refused(module: nn.Module) -> None:
    attr = pytest.importorskip("captum.attr")
    with pytest.raises(ParameterError, match="bound to a function"):
        as_class(attr.Saliency(lambda x: module(x)))
    with pytest.raises(ParameterError, match="needs layer; hand over an instance"):
        as_class(attr.LayerGradCam)


def test_grad_cam_objects_are_accepted(module: nn.Module) -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    model = load_classifier("reference", batch_size=8)
    module, images = model.module, nets.pictures(3, height=64, width=64)
    last = module.get_submodule(model.layer("last_conv", images).name)
    cam = library.GradCAM(model=module, target_layers=[last])
    chosen = enter(as_class(cam), model, images)
    assert check(chosen, model, images) == []
    other = library.GradCAM(model=module, target_layers=[nn.Conv2d(3, 3, 1)])
    with pytest.raises(ParameterError, match="is no layer of the model"):
        enter(as_class(other, "stray"), model, images)
    with pytest.raises(ParameterError, match="needs a layer"):
        as_class(library.GradCAM)


def test_quantus_metrics_are_accepted(module: nn.Module, tmp_path: Path) -> None:
    quantus = pytest.importorskip("quantus")
    assert foreign_metric(quantus.Sparseness(), "q_sparse") == "q_sparse"
    with pytest.raises(ParameterError, match="hand over an instance"):
        foreign_metric(quantus.Sparseness)
    assert foreign_metric(object()) is None
    result = call(
        "run", "--methods", "gradient", "--metrics", "q_sparse,quantus:Sparseness", "--limit", "2",
        "--batch-size", "4", "-q", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    records = open_run(tmp_path / "run").records
    values = [
        records.loc[records["metric"] == label, "value"].tolist()
        for label in ("q_sparse", "quantus:Sparseness")
    ]
    assert values[0] == values[1]
    assert len(values[0]) == 2
