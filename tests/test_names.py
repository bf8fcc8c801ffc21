"""Names: reading, writing, splitting; the registry's answers to wrong ones."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbench import names
from xbench.contracts import Card
from xbench.errors import ParameterError, UnknownNameError, XbenchError
from xbench.registry import METHODS, Registry

VALUES = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(
        lambda t: t not in ("true", "false", "none", "inf", "nan", "infinity")
    ),
)
KEYS = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)


@given(KEYS, st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_written_name_is_read_back(head: str, values: dict[str, names.Value]) -> None:
    assert names.parse(names.write(head, values)) == (head, None, values)


def test_parameters_are_sorted() -> None:
    assert names.write("m", {"b": 1, "a": 0.5}) == "m[a=0.5,b=1]"


def read_all(text: str) -> None:
    for part in names.split(text) or [text]:
        names.parse(part)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    with contextlib.suppress(ParameterError):
        read_all(text)


@pytest.mark.parametrize(
    "text", ["a[b", "a]b[", "a[b=1", "a[b]", "a[1=2]", "a[b=1,b=2]", "", "7[a=1]"]
)
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"\.$"):
        read_all(text)


def test_nested_brackets_stay_together() -> None:
    assert names.split("inverse[of=smoothgrad[n_samples=2]],b") == [
        "inverse[of=smoothgrad[n_samples=2]]",
        "b",
    ]
    assert names.parse("inverse[of=smoothgrad[n_samples=2]]")[2] == {
        "of": "smoothgrad[n_samples=2]"
    }


def test_unknown_names_answer_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*gradcam"):
        METHODS.create("gradcm")


def test_unknown_parameters_answer_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="n_samples"):
        METHODS.create("smoothgrad[n_sample=3]")


def test_values_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ParameterError, match="takes int"):
        METHODS.create("smoothgrad[n_samples=many]")


def test_labels_show_what_differs_and_identities_everything() -> None:
    plain, changed = METHODS.create("smoothgrad"), METHODS.create("smoothgrad[n_samples=7]")
    assert plain.label == "smoothgrad"
    assert changed.label == "smoothgrad[n_samples=7]"
    assert "stdev=" in plain.identity
    assert plain.identity != changed.identity


def test_settings_of_one_method_coexist_and_repeats_collapse() -> None:
    chosen = METHODS.select("smoothgrad,smoothgrad[n_samples=7],smoothgrad")
    assert [one.label for one in chosen] == ["smoothgrad", "smoothgrad[n_samples=7]"]


def test_globs_and_all() -> None:
    cams = {one.label for one in METHODS.select("*cam")}
    assert {"gradcam", "scorecam", "ablationcam"} <= cams
    assert cams < {one.label for one in METHODS.select("all")}
    with pytest.raises(UnknownNameError):
        METHODS.select("zzz*")


def test_a_minus_takes_away_what_was_chosen_before_it() -> None:
    everything = {one.label for one in METHODS.select("all")}
    cams = {one.label for one in METHODS.select("*cam")}
    assert {one.label for one in METHODS.select("all,-*cam")} == everything - cams
    kept = METHODS.select("all,-*cam,gradcam,-rise")
    assert {one.label for one in kept} == everything - cams - {"rise"} | {"gradcam"}
    sizes = METHODS.select("smoothgrad,smoothgrad[n_samples=7],-smoothgrad[n_samples=7]")
    assert [one.label for one in sizes] == ["smoothgrad"]
    either = METHODS.select("smoothgrad,smoothgrad[n_samples=7],gradient,-smoothgrad")
    assert [one.label for one in either] == ["gradient"]
    assert [one.label for one in METHODS.select("gradient,-gradcam")] == ["gradient"]
    for text, message in (
        ("all,-zzz*", "zzz"),
        ("all,-gradkam", "gradcam"),
        ("gradient,-*", "chosen"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            METHODS.select(text)


def test_two_entries_of_one_name_are_refused() -> None:
    registry: Registry[object] = Registry("thing", "methods")

    @dataclass(frozen=True)
    class First:
        card: ClassVar[Card] = Card(name="one", summary="")

    @dataclass(frozen=True)
    class Second:
        card: ClassVar[Card] = Card(name="one", summary="")

    registry.register(First)
    with pytest.raises(XbenchError, match="called 'one'"):
        registry.register(Second)
