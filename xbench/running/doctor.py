"""What this installation can do: versions, device, threads, missing libraries, broken files."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass

import torch

from xbench import __version__
from xbench.classifier.batching import cache_folder
from xbench.optional import optional
from xbench.registry import DATASETS, LEADERBOARDS, METHODS, METRICS

_LIBRARIES = {
    "torchvision": ("torchvision", "pip install torchvision"),
    "captum": ("captum", "pip install captum"),
    "lime": ("lime", "pip install lime"),
    "pytorch_grad_cam": ("grad-cam", "pip install 'xbench[gradcam]'"),
    "quantus": ("quantus", "pip install 'xbench[quantus]'"),
    "timm": ("timm", "pip install 'xbench[timm]'"),
    "zennit": ("zennit", "pip install 'xbench[zennit]'"),
    "ray": ("ray", "pip install 'xbench[ray]'"),
    "mlflow": ("mlflow-skinny", "pip install 'xbench[mlflow]'"),
    "wandb": ("wandb", "pip install 'xbench[wandb]'"),
    "scikit_posthocs": ("scikit-posthocs", "pip install 'xbench[stats]'"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    state: str
    advice: str = ""


def examine() -> list[Finding]:
    """Everything that decides what runs here."""
    findings = [
        Finding("xbench", __version__),
        Finding("python", platform.python_version()),
        Finding("torch", torch.__version__),
        _device(),
        Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
        _cache(),
    ]
    findings += [_library(module, *about) for module, about in _LIBRARIES.items()]
    for registry in (METHODS, METRICS, DATASETS, LEADERBOARDS):
        findings.append(Finding(registry.plural, f"{len(registry.entries())} found"))
        findings += [
            Finding(module, "broken", reason) for module, reason in registry.broken.items()
        ]
    return findings


def _device() -> Finding:
    if not torch.cuda.is_available():
        return Finding("device", "cpu", "no CUDA device; everything runs on the CPU")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("device", ", ".join(names))


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable:
        return Finding("cache", str(folder))
    return Finding("cache", f"{folder} is read-only", "set XBENCH_CACHE to a writable folder")


def _library(module: str, package: str, install: str) -> Finding:
    handle = optional(module, install)
    if handle.reason is None:
        try:
            return Finding(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            return Finding(package, "there")
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, "missing", install)
    return Finding(package, "broken", handle.reason)
