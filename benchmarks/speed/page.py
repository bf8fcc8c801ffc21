"""The page: environment, both tables, sharing, memory."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
from bench import Bench
from memory import Peaks
from rows import Outcome
from sharing import Shared

SHARING_GOAL, MEMORY_GOAL = 0.6, 1.3
PEERS = ("quantus", "captum", "grad-cam", "lime")
ELSEWHERE = {"torchcam": "torch-cam", "xplique": "Xplique"}

_CALLS = (
    "Both sides make the same calls, the peer in full batches; ours is at the limit, so little "
    "more can be gained on it."
)
_ROWS = (
    "What is above the limit is the building of the rows and a call's fixed cost; between runs on "
    "a shared machine the ratio moves by about 0.05."
)
_ROAD = (
    "Every row solves a system of 50,000 equations for each channel first, in compiled loops; that "
    "takes about a quarter of the time of its forward pass."
)
_CASCADE = (
    "Beside the calls it draws the random weights and folds them, which all methods of a run share "
    "and the one method here pays for."
)
REASONS: dict[str, str] = {
    "Deletion + insertion": _ROWS,
    "Faithfulness correlation": _ROWS,
    "Sensitivity-n": _ROWS,
    "Max sensitivity": _ROWS,
    "Occlusion": _ROWS,
    "RISE": _ROWS,
    "Score-CAM": _ROWS,
    "SmoothGrad": _ROWS + " Drawing the noise is one of its steps.",
    "ROAD": _ROAD,
    "Cascading randomization": _CASCADE,
    "Cascading randomization, three methods of a run": _ROWS,
    "Quantus pixel flipping, equal steps": _CALLS,
    "Quantus faithfulness correlation": _CALLS,
    "Quantus max sensitivity": _CALLS,
    "Quantus MPRT": _CASCADE,
    "Quantus local Lipschitz estimate": _CALLS,
    "captum occlusion": _CALLS,
    "lime": _CALLS,
    "grad-cam ROAD": _ROAD,
    "grad-cam Score-CAM": _CALLS,
}
"""Why a row misses its goal, by its name; said only where it does."""

INTRO = """# Speed

Written by `make bench` (`benchmarks/speed`): every figure was measured by that command, in one
process, our side, the limit and the peer taking turns, medians of {rounds} rounds.

- **Limit**: the model calls that we make (counted) times the time of one plain call: the network
  alone, in evaluation mode, weights frozen, batch normalization folded, inputs normalized
  beforehand, freed memory kept, in the order in memory and the batch size ({sizes}) that are
  fastest here, forward and forward with backward apart, timed in the same rounds. Our own calls
  may take less: their convolutions keep packed weights and apply the activations behind them.
- **Peer**: the original as its documentation says, with a good batch size where it takes one, the
  network in the order in memory in which torchvision loads it, and the C library's usual care of
  memory. **Peer, tuned by us**: handed the network in the faster order and with freed memory kept
  (as `xbench run` asks for, and as on our side), neither of which it finds by itself. Goals are of
  the first.
- **Agreement**: of the numbers of both sides; with the same draws on both sides unless it says
  otherwise. Draws are replayed for the agreement only; the time is with each side's own.
"""


def write(
    path: Path,
    bench: Bench,
    outcomes: Sequence[Outcome],
    rounds: int,
    extras: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: where.
        bench: what was measured on.
        outcomes: of all rows.
        rounds: how many.
        extras: sections behind the tables.
    """
    sizes = ", ".join(str(size) for size in sorted({size for _, _, size in bench.calls.tried}))
    parts = [INTRO.format(rounds=rounds, sizes=sizes), environment(bench), calls(bench)]
    parts += [limits(outcomes), peers(outcomes), missed(outcomes), *extras]
    path.write_text("\n".join(part for part in parts if part))


def environment(bench: Bench) -> str:
    """Where it was measured."""
    names = [f"{name} {_version(name)}" for name in ("torch", "torchvision", "numpy", *PEERS)]
    absent = [name for module, name in ELSEWHERE.items() if find_spec(module) is None]
    there = [name for module, name in ELSEWHERE.items() if find_spec(module) is not None]
    lines = [
        "## Environment\n",
        f"- {bench.about}.",
        f"- {_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}.",
        f"- {', '.join(names)}. {date.today():%Y-%m-%d}.",
    ]
    if bench.device.type == "cuda":
        lines.insert(3, f"- {torch.cuda.get_device_name(bench.device)}.")
    if absent:
        lines.append(f"- Not installed here, so not measured: {', '.join(absent)}.")
    if there:
        lines.append(f"- Installed, but without a row: {', '.join(there)}.")
    return "\n".join(lines) + "\n"


def calls(bench: Bench) -> str:
    """The measured time of one call."""
    found = bench.calls
    words = {"forward": "forward", "backward": "forward and backward"}
    lines = ["| one plain call | order in memory | batch | ms an image | our batch |", "|---" * 5]
    lines[1] += "|"
    for kind, best in found.best.items():
        ours = str(bench.model.size(kind, bench.images)) if kind in words else ""
        name = words.get(kind, f"tail behind `{kind}`")
        lines.append(
            f"| {name} | {best.order} | {best.size} | {1000 * best.seconds:.2f} | {ours} |"
        )
    other = {
        kind: min(
            seconds
            for (one, order, _), seconds in found.tried.items()
            if one == kind and order != found.best[kind].order
        )
        for kind in words
    }
    slower = ", ".join(
        f"{words[kind]} {1000 * seconds:.2f} ms ({seconds / found.best[kind].seconds:.2f} x)"
        for kind, seconds in other.items()
    )
    return "\n".join(lines) + f"\n\nIn the other order at its best batch: {slower}.\n"


def limits(outcomes: Sequence[Outcome]) -> str:
    """The table against the limit."""
    rows = [one for one in outcomes if one.row.kind == "limit"]
    lines = [
        "## Against the limit\n",
        "| row | what | calls | ours, s | limit, s | ours / limit | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        goal = "" if one.row.goal is None else f"<= {one.row.goal:g}{_mark(one)}"
        lines.append(
            f"| {one.row.name} | {one.what or one.failure} | {_calls(one)} | "
            f"{_seconds(one, 'ours')} | {_seconds(one, 'limit')} | {_times(one.over_limit)} | "
            f"{goal} |"
        )
    return "\n".join(lines) + "\n" if rows else ""


def peers(outcomes: Sequence[Outcome]) -> str:
    """The table against peers."""
    rows = [one for one in outcomes if one.row.kind == "peer"]
    lines = [
        "## Against peers, equal work\n",
        "| row | what | ours, s | limit, s | ours / limit | peer, s | peer / ours | goal | "
        "peer, tuned by us, s | peer, tuned by us / ours | agreement |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        goal = "" if one.row.goal is None else f">= {one.row.goal:g}{_mark(one)}"
        lines.append(
            f"| {one.row.name} | {one.what or one.failure} | {_seconds(one, 'ours')} | "
            f"{_seconds(one, 'limit')} | {_times(one.over_limit)} | {_seconds(one, 'peer')} | "
            f"{_times(one.faster)} | {goal} | {_seconds(one, 'tuned')} | "
            f"{_times(one.faster_than_tuned)} | {one.agreement} |"
        )
    return "\n".join(lines) + "\n" if rows else ""


def missed(outcomes: Sequence[Outcome]) -> str:
    """Rows that miss their goal, or that failed, with the reason."""
    lines = []
    for one in outcomes:
        if one.failure:
            lines.append(f"- {one.row.name} ({one.row.kind}): not measured. {one.failure}")
        elif one.holds is False:
            why = REASONS.get(one.row.name, "The reason is not known yet.")
            lines.append(f"- {one.row.name} ({one.row.kind}): goal missed. {why}")
    return "\n".join(["## What is not reached\n", *lines, ""]) if lines else ""


def sharing(found: Shared) -> str:
    """The section on sharing."""
    verdict = "reached" if found.ratio <= SHARING_GOAL else "missed"
    same = (
        "the values of all cells are the same to the last bit"
        if not found.differing
        else f"the values of {len(found.differing)} cells differ, by at most "
        f"{max(found.differing.values()):.1e} ({', '.join(list(found.differing)[:3])})"
    )
    lines = [
        "## The whole grid against its cells run alone\n",
        f"The embedded suite, {found.images} scenes, {found.methods} methods whose map needs at "
        f"most 1,000 calls, {found.metrics} default metrics, {found.cells} cells: "
        f"{found.together:,.0f} model calls (forward and backward images, counted) together, "
        f"{found.alone:,.0f} with every cell alone, "
        f"a ratio of **{found.ratio:.2f}** (goal {SHARING_GOAL}, {verdict}); {same}.\n",
        "| metric | calls in the grid, shared ones aside | calls of its cells alone, maps aside |",
        "|---|---|---|",
    ]
    for metric, (together, alone) in sorted(found.by_metric.items()):
        lines.append(f"| `{metric}` | {together:,.0f} | {alone:,.0f} |")
    return "\n".join(lines) + "\n"


def memory(found: Peaks) -> str:
    """The section on memory."""
    verdict = "reached" if found.ratio <= MEMORY_GOAL else "missed"
    return (
        "## Memory\n\nPeak resident memory of `xbench run` on the embedded suite (three methods, "
        f"seven metrics, tables and report included): {found.few_mb:,.0f} MiB for {found.few:,} "
        f"images, {found.many_mb:,.0f} MiB for {found.many:,}, a ratio of **{found.ratio:.2f}** "
        f"(goal {MEMORY_GOAL}, {verdict}).\n"
    )


def line(one: Outcome) -> str:
    """One outcome for the terminal."""
    if one.failure:
        return f"{one.row.name} ({one.row.kind}): {one.failure}"
    found = [f"ours {_seconds(one, 'ours')} s", f"limit {_seconds(one, 'limit')} s"]
    found.append(f"ours/limit {_times(one.over_limit)}")
    if one.faster is not None:
        found += [f"peer {_seconds(one, 'peer')} s", f"peer/ours {_times(one.faster)}"]
        found.append(f"tuned peer/ours {_times(one.faster_than_tuned)}")
    mark = {None: "", True: "holds", False: "MISSED"}[one.holds]
    goal = "" if one.row.goal is None else f"goal {one.row.goal:g} {mark}"
    return f"{one.row.name} ({one.row.kind}): {', '.join(found)}  {goal}  {one.agreement}"


def _mark(one: Outcome) -> str:
    return " **missed**" if one.holds is False else ""


def _calls(one: Outcome) -> str:
    names = {"f": one.cost.forwards, "b": one.cost.backwards, "t": one.cost.tails}
    return " + ".join(f"{count:,.0f} {name}" for name, count in names.items() if count)


def _seconds(one: Outcome, who: str) -> str:
    found = one.middle(who)
    return "" if found is None else f"{found:.3f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [row.partition(":")[2].strip() for row in text.splitlines() if "model name" in row]
    return names[0] if names else platform.processor() or "unknown processor"
