"""The gates as a JUnit file: a suite a gate, a case an explainer; CI servers show it as tests."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from xbench.statistics.leaderboard import Leaderboard

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(board: Leaderboard, manifest: Mapping[str, Any]) -> str:
    """The verdicts of a board's gates on every explainer, as JUnit XML.

    A failed gate is a failure, and so is one that the board requires and that was not tested;
    other gates that were not tested are skipped. The figure stands in the message.
    """
    suites = [_suite(board, gate) for gate in board.card.gates]
    about = (
        f"xbench {board.card.name}: {manifest['model']['name']} on {manifest['dataset']['name']}"
    )
    root = ET.Element("testsuites", _counts(about, suites))
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(board: Leaderboard, gate: str) -> ET.Element:
    cases = []
    for row in board.rows:
        if row.control:
            continue
        result = board.gates[row.method][gate]
        case = ET.Element("testcase", {"classname": f"xbench.{gate}", "name": _text(row.method)})
        if gate in row.failed:
            ET.SubElement(
                case, "failure", {"message": _text(result.reason), "type": result.verdict}
            )
        elif result.verdict != "pass":
            ET.SubElement(case, "skipped", {"message": _text(result.reason)})
        cases.append(case)
    suite = ET.Element("testsuite")
    suite.extend(cases)
    suite.attrib.update(_counts(gate, [suite]))
    return suite


def _counts(name: str, suites: list[ET.Element]) -> dict[str, str]:
    found = {"name": _text(name)}
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        found[attribute] = str(sum(len(list(suite.iter(tag))) for suite in suites))
    return found


def _text(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
