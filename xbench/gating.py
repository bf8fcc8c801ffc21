"""The guard for continuous integration: two runs, one reason; JUnit XML and a Markdown summary."""

from pathlib import Path
from xml.etree import ElementTree

from xbench.errors import RunError
from xbench.publishing import open_published
from xbench.registry import LEADERBOARDS
from xbench.running.folder import RunFolder
from xbench.running.session import open_run
from xbench.statistics.regression import MARGIN, Guarded, Snapshot, hold_against


def gate(
    baseline: Path,
    run: Path,
    *,
    use: str = "general",
    method: str | None = None,
    margin: float = MARGIN,
) -> Guarded:
    """Hold a run of a changed model against a baseline.

    Args:
        baseline: a run folder or a published board, of the model before.
        run: a run folder or a published board of the model after, on the same data.
        use: a board by name, see `xbench leaderboards`.
        method: label of a method, default the one that the baseline recommends.
        margin: share of its lead over the random control that it may lose.

    Returns:
        every check; `.passed`, and `.reason` in one sentence.

    Raises:
        RunError: the runs are not of the same data and protocol, or nothing is recommended.
    """
    old, new = snapshot(baseline), snapshot(run)
    for what in ("seed", "target", "reading"):
        if old.manifest[what] != new.manifest[what]:
            raise RunError(
                f"The baseline was run with {what} '{old.manifest[what]}', this run with "
                f"'{new.manifest[what]}'; use the same."
            )
    board = LEADERBOARDS.create(use).value
    return hold_against(old, new, board, method=method, margin=margin)


def snapshot(path: Path) -> Snapshot:
    """The records of a run folder or a published board.

    Raises:
        RunError: it is neither.
    """
    manifest = RunFolder(path).manifest()
    if "published" in manifest:
        published = open_published(path)
        return Snapshot(published.cells, published.manifest)
    return Snapshot(open_run(path).records, manifest)


def junit(found: Guarded) -> str:
    """The checks as JUnit XML, one test case each."""
    failures = sum(not check.passed for check in found.checks)
    suite = ElementTree.Element(
        "testsuite", name="xbench gate", tests=str(len(found.checks)), failures=str(failures)
    )
    for check in found.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"xbench.{found.method}", name=check.name
        )
        if check.passed:
            ElementTree.SubElement(case, "system-out").text = check.reason
        else:
            ElementTree.SubElement(case, "failure", message=check.reason).text = check.reason
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def summary(found: Guarded) -> str:
    """The checks as a Markdown page, for the summary of a build."""
    verdict = "passed" if found.passed else "failed"
    rows = [
        f"| {check.name} | {'holds' if check.passed else '**lost**'} | "
        f"{check.reason.replace('|', chr(92) + '|')} |"
        for check in found.checks
    ]
    head = [
        f"# xbench gate: {verdict}",
        "",
        found.reason,
        "",
        f"Use {found.use}, {found.images} images in common.",
        "",
        "| check | verdict | what was found |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"
