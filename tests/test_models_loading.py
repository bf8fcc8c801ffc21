"""From a specification to a classifier: names, files, weights, refusals."""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import nets
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from xbench.datasets.folders import ImageFolder

from xbench.classifier import Classifier, Normalization
from xbench.classifier.randomize import RandomizedNetwork
from xbench.contracts import Geometry
from xbench.errors import ModelError, ParameterError
from xbench.models import checkpoints, reference
from xbench.models.devices import resolve_device
from xbench.models.loading import load_classifier
from xbench.models.zoo import build_torchvision
from xbench.streams import Streams

NET = """
import torch
from torch import nn
import helper_of_net

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, helper_of_net.CLASSES)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def described():
    return Net(), dict(mean=(0.5, 0.4, 0.3), std=0.2, crop=24, resize=28, interpolation="bicubic",
                       class_names=["a", "b", "c"], layers={"last_conv": "body.0"})

def strange():
    return Net(), dict(meen=0.5)

def halfway():
    return Net(), dict(mean=0.5)

def unnamed():
    return Net(), dict(crop=24, class_names=["a", "b"])

def text():
    return "a network"

def failing():
    raise RuntimeError("no such thing")
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "helper_of_net.py").write_text("CLASSES = 3\n")
    return tmp_path / "net.py"


def load(spec: object, weights: Path | None = None, **options: object) -> Classifier:
    return load_classifier(str(spec), weights=weights, device="cpu", batch_size=4, **options)  # type: ignore[arg-type]


def state(classifier: Classifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in classifier.module.state_dict().items()}


def test_python_file(net: Path) -> None:
    before = torch.get_rng_state()
    model = load(f"{net}:described")
    assert torch.equal(before, torch.get_rng_state()), "global random state is kept"
    assert model.normalization == Normalization((0.5, 0.4, 0.3), (0.2,))
    assert model.geometry == Geometry((24, 24), 28, "bicubic")
    assert model.class_names == ["a", "b", "c"]
    assert model.layer("last_conv", nets.pictures(1)).name == "body.0"
    assert model.logits(nets.pictures()).shape == (3, 3)
    assert model.notes == []
    assert load(f"{net}:described").weights_hash == model.weights_hash, "drawn alike each time"
    bare = load(f"{net}:Net")
    assert bare.normalization == Normalization()
    assert "No normalization was declared" in bare.notes[0]


def test_overrides(net: Path) -> None:
    model = load(
        f"{net}:described",
        normalization=Normalization((0.1,), (0.9,)),
        geometry=Geometry((8, 8)),
        layers={"last_conv": "body.1"},
    )
    assert model.normalization.mean == (0.1,)
    assert model.geometry.crop == (8, 8)
    assert model.layer("last_conv", nets.pictures(1)).name == "body.1"
    with pytest.raises(ParameterError, match="2 channels, the input 3"):
        load(f"{net}:described", normalization=Normalization((0.1, 0.1), (0.9,)))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("descrbed", "no function 'descrbed'. Did you mean described?"),
        ("strange", "says 'meen' of its network. Did you mean mean"),
        ("halfway", "describes its network wrongly ('std')"),
        ("unnamed", "names 2 classes, but the model returns 3 logits"),
        ("text", "returns a str; it must return an nn.Module"),
        ("failing", "fails with RuntimeError: no such thing"),
    ],
)
def test_python_file_mistakes(net: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        load(f"{net}:{function}")


def test_python_file_that_is_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no file '.*nowhere\.py'"):
        load(tmp_path / "nowhere.py:f")
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(ModelError, match=r"broken\.py' cannot be imported \(SyntaxError"):
        load(tmp_path / "broken.py:f")
    with pytest.raises(ModelError, match="Say which function"):
        load(tmp_path / "broken.py")


QUIRKS = {
    "module.": (lambda s: {f"module.{k}": v for k, v in s.items()}, "'module.' was dropped"),
    "model.net.": (lambda s: {f"model.net.{k}": v for k, v in s.items()}, "'model.' was dropped"),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "taken from 'state_dict'"),
    "lightning": (
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
        "'model.' was dropped",
    ),
    "half": (lambda s: {k: v.half() for k, v in s.items()}, "cast from float16"),
    "counts": (lambda s: {**s, "body.total_ops": torch.zeros(1)}, ""),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks_of_checkpoints_are_repaired_and_said(net: Path, tmp_path: Path, quirk: str) -> None:
    change, note = QUIRKS[quirk]
    wanted = {k: torch.randn_like(v).half().float() for k, v in state(load(f"{net}:Net")).items()}
    torch.save(change(wanted), tmp_path / "w.pth")
    model = load(f"{net}:Net", tmp_path / "w.pth")
    for key, value in state(model).items():
        assert torch.equal(value, wanted[key]), key
    assert note in " ".join(model.notes)


def test_safetensors(net: Path, tmp_path: Path) -> None:
    wanted = {k: torch.randn_like(v) for k, v in state(load(f"{net}:Net")).items()}
    save_file(wanted, tmp_path / "w.safetensors")
    model = load(f"{net}:Net", tmp_path / "w.safetensors")
    assert all(torch.equal(v, wanted[k]) for k, v in state(model).items())


def test_weights_of_another_architecture(net: Path, tmp_path: Path) -> None:
    torch.save(nets.build(nets.SmallCNN).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        load(f"{net}:Net", tmp_path / "w.pth")
    text = str(caught.value)
    assert "are not of net.py:Net" in text
    assert "2 missing (body.0.weight, body.0.bias)" in text
    assert re.search(r"unexpected \(features\.0\.weight", text)
    assert "1 of another shape" in text or "2 of another shape" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as weights"),
        (b"hello there", "was not loaded|cannot be read as weights"),
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 3}, "holds no tensors by name \\(its keys: epoch\\)"),
        ({"a": torch.tensor([float("nan")])}, "are not finite \\(a\\)"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message):
        checkpoints.read_checkpoint(path)
    with pytest.raises(ModelError, match="There is no weights file"):
        checkpoints.read_checkpoint(tmp_path / "nowhere.pth")
    (tmp_path / "w.safetensors").write_bytes(b"12")
    with pytest.raises(ModelError, match="no readable safetensors file"):
        checkpoints.read_checkpoint(tmp_path / "w.safetensors")


class Poison:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch", "pickle", "module"])
def test_poison_does_not_run(net: Path, tmp_path: Path, writer: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "w.pth"
    poisoned = {"state_dict": {"a": torch.zeros(1)}, "extra": Poison(mark)}
    if writer == "torch":
        torch.save(poisoned, path)
    elif writer == "pickle":
        path.write_bytes(pickle.dumps(poisoned))
    else:
        torch.save(nets.build(nets.SmallCNN), path)
    with pytest.raises(ModelError, match="could run code, so it was not loaded"):
        load(f"{net}:Net", path)
    assert not mark.exists()


def test_poisoned_program_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    exported = torch.export.export(nets.build(nets.Linear), (torch.rand(2, 3, 12, 12),))
    torch.export.save(exported, tmp_path / "good.pt2")
    torch.save(Poison(mark), tmp_path / "poison")
    poison = (tmp_path / "poison").read_bytes()
    with (
        zipfile.ZipFile(tmp_path / "good.pt2") as good,
        zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad,
    ):
        for name in good.namelist():
            is_input = "sample_inputs" in name
            bad.writestr(name, poison if is_input else good.read(name))
    with pytest.raises(ModelError, match="cannot be loaded as a program"):
        load(tmp_path / "bad.pt2")
    assert not mark.exists()
    torch.export.load(tmp_path / "good.pt2")


def test_programs(tmp_path: Path) -> None:
    module, images = nets.build(nets.SmallCNN), nets.pictures(3, height=12, width=12)
    with torch.no_grad():
        expected = module(images)
    with pytest.warns(FutureWarning):
        torch.jit.script(module).save(str(tmp_path / "net.pt"))
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(module, (images,), dynamic_shapes=({0: batch},))
    torch.export.save(exported, tmp_path / "net.pt2")
    for name in ("net.pt", "net.pt2"):
        model = load(tmp_path / name)
        torch.testing.assert_close(model.logits(images), expected)
        targets = torch.tensor([0, 1, 2])
        reference = Classifier(module, batch_size=4).gradients(images, targets)
        torch.testing.assert_close(model.gradients(images, targets), reference)
        assert model.find_layer("last_conv", images) is None
        assert len(model.weights_hash) == 16
        assert not any(p.requires_grad for p in model.module.program.parameters())
        before = model.fingerprint()
        network = RandomizedNetwork(model, images, "normal", Streams(0, ["a"]))
        names = [layer.name for layer in network.layers]
        assert names == ["features.0", "features.4", "head"], "in order of execution"
        assert not torch.allclose(network.at([0, 1, 2]).logits(images), expected)
        torch.testing.assert_close(network.at([]).logits(images), expected)
        assert model.fingerprint() == before
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="holds no program"):
        load(tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="leave out --weights"):
        load(tmp_path / "net.pt", tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet81", "torchvision has no classifier 'resnet81'. Did you mean torchvis"),
        ("mobilenet_v2", "Did you mean torchvision:mobilenet_v2"),
        ("refernce", "There is no model 'refernce'. Did you mean reference or"),
        ("what ever", "There is no model 'what ever'."),
        ("torchvision:", "There is no model"),
        ("torchvision:alexnet[weights=V9]", "has the weights IMAGENET1K_V1, no V9"),
    ],
)
def test_unknown_models(spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        load(spec)


def test_reference_with_other_weights(tmp_path: Path) -> None:
    wanted = nets.build(reference.ReferenceNet, seed=3).state_dict()
    torch.save({"state_dict": wanted}, tmp_path / "w.pt")
    model = load("reference", tmp_path / "w.pt")
    assert all(torch.equal(value, wanted[key]) for key, value in state(model).items())
    assert model.geometry == reference.GEOMETRY
    assert model.normalization == reference.NORMALIZATION
    assert model.class_names == list(reference.reference_card().class_names)


def test_unreachable_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(ModelError, match=r"could not be fetched \(no network\); download https://"):
        load("torchvision:alexnet")
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=r"timm:resnet10t could not be fetched \(no network\)"):
        load("timm:resnet10t")


def test_torchvision_card_and_own_head(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision.models")
    net = torchvision.get_model("squeezenet1_1", weights=None, num_classes=7)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = load("torchvision:squeezenet1_1", tmp_path / "w.pth")
    assert model.logits(nets.pictures(2, height=64, width=64)).shape == (2, 7)
    assert model.class_names == []
    assert "built for the 7 classes" in " ".join(model.notes)
    whole = torchvision.get_model("mobilenet_v3_small", weights=None)
    cards = list(torchvision.get_model_weights("resnet50"))
    named = tmp_path / cards[1].url.rpartition("/")[2]
    torch.save(torchvision.get_model("resnet50", weights=None).state_dict(), named)
    built = build_torchvision("resnet50", named, {})
    assert built.geometry == Geometry((224, 224), 232)
    assert built.notes == []
    assert len(built.class_names) == 1000
    first = build_torchvision("resnet50", named, {"weights": "IMAGENET1K_V1"})
    assert first.geometry == Geometry((224, 224), 256)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match="are not of torchvision:resnet50"):
        load("torchvision:resnet50", tmp_path / "w.pth")


def test_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet10t", pretrained=False)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = load("timm:resnet10t", tmp_path / "w.pth")
    config = timm.data.resolve_data_config({}, model=net)
    assert model.geometry.crop == tuple(config["input_size"][1:])
    assert model.normalization.mean == tuple(config["mean"])
    assert len(model.class_names) == 1000
    with pytest.raises(ModelError, match=r"timm has no model .* Did you mean timm:"):
        load("timm:resnet10", tmp_path / "w.pth")


def test_real_network(imagenet_sample: Path) -> None:
    model = load_classifier(
        "torchvision:mobilenet_v2",
        weights=imagenet_sample / "mobilenet_v2.pt",
        device="cpu",
        batch_size=16,
    )
    folder = ImageFolder(str(imagenet_sample / "images"))
    source = folder.open(model.geometry, limit=64, seed=0, classes=1000)
    samples = source.read(range(len(source)))
    right = int((model.logits(samples.images).argmax(dim=1) == samples.labels).sum())
    assert len(source) == 64
    assert right >= 56


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    for text in ("gpu", "cuda:x", "mps", ""):
        with pytest.raises(ParameterError, match="choose auto, cpu, cuda"):
            resolve_device(text)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(ParameterError, match=r"--device cuda cannot be used: .*; choose auto or"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda:0")
    assert resolve_device("CUDA:1") == torch.device("cuda:1")
    with pytest.raises(ParameterError, match="2 CUDA devices"):
        resolve_device("cuda:2")


def test_batch_size(net: Path) -> None:
    with pytest.raises(ParameterError, match="at least 1 image"):
        load_classifier(f"{net}:Net", device="cpu", batch_size=0)


def test_rename_keeps_what_fits() -> None:
    wanted: Mapping[str, Tensor] = {"model.a": torch.zeros(1), "model.b": torch.zeros(1)}
    got, notes = checkpoints.rename({"a": torch.ones(1), "b": torch.ones(1)}, wanted)
    assert set(got) == set(wanted)
    assert notes == ["The prefix 'model.' was put before the weights' names."]
    assert checkpoints.rename(wanted, wanted) == (dict(wanted), [])


def test_user_module_is_not_touched(net: Path) -> None:
    model = load(f"{net}:Net")
    assert isinstance(model.module, nn.Module)
    assert type(model.module).__module__.startswith("_xbench_user_net")
