"""Where a model runs."""

import re

import torch

from xbench.errors import ParameterError


def resolve_device(text: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:1` means on this machine.

    Raises:
        ParameterError: another word, or a device that is not there.
    """
    text = text.strip().lower()
    if text == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if text == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", text)
    if match is None:
        raise ParameterError(f"There is no device '{text}'; choose auto, cpu, cuda or cuda:0.")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = "no usable NVIDIA GPU was found" if built else "this PyTorch is built without CUDA"
        raise ParameterError(f"--device {text} cannot be used: {why}; choose auto or cpu.")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise ParameterError(
            f"There is no device '{text}': this machine has {count} CUDA devices, numbered from 0."
        )
    return torch.device("cuda", index)
