"""The report: its JSON, its counts, the page, and the measurements that its pictures show."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

import radam
from radam.audit.capabilities import Capabilities
from radam.audit.finding import Worst
from radam.audit.report import STATUSES, Entry, Report, measurements
from radam.audit.subject import Params, Subject
from radam.audit.subjects.finding import find

SCRIPT = "import torch\n\nassert 1 < 0 & 2, '<b>'\n"
RECORDS = [
    Entry("every_step", "passed", "", "float32", "loop", 30, Worst("param", 0.5, 0.75, 7), None, 1.5),
    Entry(
        "every_step",
        "failed",
        "param[0] = nan, but should be 1.0 (inf times the bound 1e-7) [Wrong(lr=0.1), float16, foreach, step 1]",
        "float16",
        "foreach",
        3,
        Worst("param", math.inf, 0.0, 1),
        SCRIPT,
        0.25,
    ),
    Entry("every_step", "failed", "raised RuntimeError: no", "float64", "fused", 1, None, f"# longer\n{SCRIPT}", 0.25),
    Entry("every_step", "skipped", "the constructor takes no 'capturable'", None, "capturable"),
    Entry("repr", "xfail", "known since 1.2 (repr is empty)", examples=1),
    Entry("hooks", "skipped", "has no hooks"),
]
FIGURES: dict[str, Any] = {
    "errors": {
        "options": "lr=0.1",
        "series": [
            {"implementation": "loop", "dtype": "float32", "quantities": {"exp_avg": [0.5, 0.25], "param": [0.5, 0.0]}},
            {
                "implementation": "fused",
                "dtype": "float32",
                "quantities": {"exp_avg": [0.5, None], "param": [9.0, 0.1]},
            },
        ],
    },
    "ulps": {
        "edges": [0.0, 0.5, 1.0],
        "series": [{"implementation": "loop", "dtype": "float32", "param": [3, 1, 0], "state": [2, 2, 4]}],
    },
    "rectification": {
        "options": "lr=0.1",
        "curves": [
            {"label": "beta2 = 0.9", "exact": [1.0, 0.5], "applied": {"loop": [1.0, 0.5], "compiled": [1.0, 0.25]}}
        ],
    },
    "update": {
        "options": "lr=0.1",
        "curves": [{"label": "", "exact": None, "applied": {"loop": [1.0, None], "foreach": [1.0, 1.0]}}],
    },
    "omitted": {"errors[float16, loop]": "RuntimeError: <no>"},
}


def report(*records: Entry, subject: str = "torch.optim:RAdam", **more: Any) -> Report:
    return Report(subject, {"python": "3.11", "torch": "2.9"}, "cpu", records or RECORDS, **more)


# Verdict, counts, JSON


def test_json_has_the_keys_of_the_contract_and_round_trips() -> None:
    loaded = json.loads(report(figures=FIGURES).to_json())
    assert list(loaded) == ["schema", "subject", "versions", "device", "counts", "records"]
    assert (loaded["schema"], loaded["subject"], loaded["device"]) == (1, "torch.optim:RAdam", "cpu")
    for record, entry in zip(loaded["records"], RECORDS, strict=True):
        assert list(record) == [
            *("check", "status", "reason", "dtype", "implementation", "examples", "worst", "reproduction", "seconds")
        ]
        if record["worst"] is not None:
            assert list(record["worst"]) == ["quantity", "bounds", "ulp", "step"]
            record["worst"] = Worst(**{**record["worst"], "bounds": float(record["worst"]["bounds"])})
        assert Entry(**record) == entry


def test_counts_and_closing_line() -> None:
    made = report()
    assert made.counts == {"run": 4, "failed": 2, "xpassed": 0, "passed": 1, "xfail": 1, "skipped": 2}
    assert made.checks_run == ["every_step", "repr"]
    assert made.closing_line() == (
        "2 checks in 4 settings run: 1 passed, 2 failed, 1 failed as expected, 0 passed unexpectedly; "
        "skipped: 1 check, 2 settings"
    )


@pytest.mark.parametrize(
    ("status", "passed", "verdict"),
    [
        ("passed", True, "Passed: 2 checks in 2 settings"),
        ("xfail", True, "Passed: 2 checks in 2 settings"),
        ("skipped", True, "Passed: 1 check in 1 setting"),
        ("failed", False, "Failed: 1 of 2 checks, in 1 of 2 settings"),
        ("xpassed", False, "Failed: 1 of 2 checks, in 1 of 2 settings"),
    ],
)
def test_the_verdict(status: Any, passed: bool, verdict: str) -> None:
    made = report(Entry("repr", "passed"), Entry("hooks", status, "a reason"))
    assert made.passed is passed
    assert [entry.check for entry in made.failed] == ([] if passed else ["hooks"])
    assert verdict in text_of(made.to_html())


def test_an_audit_without_any_check_says_so() -> None:
    assert "Nothing was checked" in text_of(report(Entry("hooks", "skipped", "has none")).to_html())


# The page


class Page(HTMLParser):
    """Tags that are well nested, the attributes of all, and the text."""

    VOID = frozenset({"meta", "br", "wbr", "link", "img", "input", "hr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing, at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def text_of(source: str) -> str:
    return " ".join("".join(Page(source).text).split())


def test_the_page_needs_nothing_else() -> None:
    source = report(figures=FIGURES).to_html()
    page = Page(source)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "img", "object", "embed"})
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)


def test_ids_are_unique_and_links_lead_to_them() -> None:
    page = Page(report(figures=FIGURES).to_html())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes.get("href") or attributes.get("xlink:href") for _, attributes in page.tags]
    assert {target.removeprefix("#") for target in targets if target} <= set(ids)


def test_the_page_has_every_finding_with_its_script_and_every_reason() -> None:
    page = text_of(report().to_html())
    for entry in RECORDS:
        assert entry.reason in page
        assert " ".join((entry.reproduction or "").split()) in page
    assert "failed in 2 of 3 settings: foreach (float16), fused (float64)" in page
    assert (
        page.index("Findings") < page.index("All checks") < page.index("Expected failures") < page.index("has no hooks")
    )


def test_an_unexpected_pass_is_a_finding() -> None:
    page = text_of(report(Entry("repr", "xpassed", "was expected to fail, but passes: a bug")).to_html())
    assert "passed unexpectedly in 1 of 1 setting" in page
    assert "was expected to fail, but passes: a bug" in page


def test_what_a_subject_says_is_escaped() -> None:
    hostile = "<script>alert('x')</script>\"'&amp;"
    figures = {**FIGURES, "errors": {**FIGURES["errors"], "options": hostile}, "omitted": {hostile: hostile}}
    entries = [
        Entry(hostile, status, hostile, hostile, hostile, 1, Worst(hostile, 2.0, 1.0, 1), hostile)
        for status in STATUSES
    ]
    source = Report(hostile, {hostile: hostile}, hostile, entries, figures).to_html()
    assert not Page(source).named("script")
    assert hostile in text_of(source)


def test_every_picture_is_described_in_words() -> None:
    page = Page(report(figures=FIGURES).to_html())
    described = [attributes["aria-label"] or "" for attributes in page.named("div") if attributes.get("role") == "img"]
    assert len(described) == len(page.named("svg")) == 6
    errors, _, _, ulps, rectification, update = described
    assert "fused: infinite at step 2: NaN or infinity in place of a number" in errors
    assert "loop: 4 of 8 beyond 1 ulp, 4 beyond 1" in ulps
    assert (
        "loop: equal to the oracle's in 2 steps; compiled: at most 0.25 from the oracle's, at step 2" in rectification
    )
    assert "foreach: at most inf from those of loop, at step 2 of 2 steps" in update


# Measurements

STEPS, CURVE_STEPS = 40, 60


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEPS", STEPS), ("CURVE_STEPS", CURVE_STEPS)):
        monkeypatch.setattr(measurements, name, value)


def measured(subject: Subject, **changes: Any) -> dict[str, Any]:
    changes.setdefault("supports", frozenset({"half"}))
    figures = measurements.measure(Capabilities(replace(subject, **changes), torch.device("cpu")))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    return figures


def worst_of(figures: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The worst error by dtype and quantity."""
    return {
        (series["dtype"], quantity): max(math.inf if error is None else error for error in errors)
        for series in figures["errors"]["series"]
        for quantity, errors in series["quantities"].items()
    }


def off(curve: Mapping[str, Any], implementation: str = "default") -> float:
    """The largest difference between a curve as applied and the exact one."""
    return max(float(abs(a - b)) for a, b in zip(curve["applied"][implementation], curve["exact"], strict=False))


RIGHT = find("radam:RAdam")[0]


class Doubled(radam.RAdam):
    """Takes steps of twice the size."""

    def step(self, closure: Any = None) -> Any:
        params = [param for group in self.param_groups for param in group["params"]]
        before = [param.detach().clone() for param in params]
        loss = super().step(closure)
        with torch.no_grad():
            for param, old in zip(params, before, strict=True):
                param.add_(param - old)
        return loss


def test_measurements_of_a_right_optimizer() -> None:
    figures = measured(RIGHT)
    assert set(figures) == {"errors", "ulps", "rectification"}
    worst = worst_of(figures)
    dtypes = ("float64", "float32", "bfloat16", "float16")
    assert set(worst) == {(dtype, name) for dtype in dtypes for name in ("exp_avg", "exp_avg_sq", "param")}
    assert all(0 < error <= 1 for error in worst.values())
    for series in figures["ulps"]["series"]:
        assert len(series["param"]) == len(figures["ulps"]["edges"])
        assert 2 * sum(series["param"]) == sum(series["state"]) > 0
        # A half precision parameter is rounded once: within half a unit.
        beyond = [count for count, edge in zip(series["param"], figures["ulps"]["edges"], strict=True) if edge >= 0.5]
        assert series["dtype"] not in ("bfloat16", "float16") or not any(beyond)
    for curve in figures["rectification"]["curves"]:
        assert len(curve["exact"]) == len(curve["applied"]["default"]) == CURVE_STEPS
        assert off(curve) < 1e-9
        assert curve["exact"][0] == 1.0 != curve["exact"][5]


def test_errors_of_a_wrong_optimizer() -> None:
    worst = worst_of(measured(RIGHT, build=lambda params, options: Doubled(params, lr=options["lr"])))
    assert all(error > 1 for (_, quantity), error in worst.items() if quantity == "param")
    assert all(error <= 1 for (_, quantity), error in worst.items() if quantity != "param")


def test_another_threshold_shows_in_the_curve() -> None:
    def build(params: Params, options: Mapping[str, Any]) -> torch.optim.Optimizer:
        return RIGHT.build(params, {**options, "threshold": 8.0})

    for curve in measured(RIGHT, build=build, supports=frozenset())["rectification"]["curves"]:
        sizes = curve["applied"]["default"]
        differing = [
            step for step, (a, b) in enumerate(zip(sizes, curve["exact"], strict=True), 1) if abs(a - b) > 1e-9
        ]
        assert differing[0] == 6
        assert sizes[5] == pytest.approx(1.0)


def test_a_compiled_rectification_is_recovered_too() -> None:
    figures = measured(RIGHT, supports=frozenset({"compile"}))
    for curve in figures["rectification"]["curves"]:
        assert len(curve["applied"]["compiled"]) == 12
        assert off(curve, "compiled") < 1e-9


def test_a_subject_without_an_oracle_has_a_curve_alone() -> None:
    figures = measured(replace(find("torch.optim:SGD")[0], oracle=None), supports=frozenset({"foreach"}))
    assert set(figures) == {"update"}
    (curve,) = figures["update"]["curves"]
    assert curve["exact"] is None
    assert curve["applied"]["loop"] == curve["applied"]["foreach"] == [pytest.approx(1.0)] * CURVE_STEPS


def test_an_oracle_of_one_branch_has_an_update() -> None:
    (curve,) = measured(find("radam:Adam")[0], supports=frozenset())["update"]["curves"]
    assert off(curve) < 1e-9


def test_an_oracle_that_counts_on_state_has_zeros_to_start_from() -> None:
    (curve,) = measured(find("tests.examples.rmsprop:repaired")[0])["update"]["curves"]
    assert off(curve) < 1e-9


def test_a_subject_that_raises_leaves_figures_out_with_the_reason() -> None:
    class Raises(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            param = self.param_groups[0]["params"][0]
            if param.dtype == torch.float64 or self.state[param].get("step") == 5:
                raise RuntimeError("broken\nand more")
            return super().step(closure)

    figures = measured(RIGHT, build=lambda params, options: Raises(params), supports=frozenset())
    assert figures == {
        "omitted": {
            "errors[float64, default]": "a trial step in float64 raised RuntimeError: broken",
            "errors[float32, default]": "RuntimeError: broken",
            "rectification[float64, default]": "RuntimeError: broken",
        }
    }
    page = text_of(report(figures=figures).to_html())
    assert "errors[float32, default]: RuntimeError: broken" in page


def test_nan_is_none_and_infinitely_far() -> None:
    class Spoilt(radam.RAdam):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            with torch.no_grad():
                self.param_groups[0]["params"][0].view(-1)[0] = math.nan
            return loss

    figures = measured(RIGHT, build=lambda params, options: Spoilt(params), supports=frozenset())
    for series in figures["errors"]["series"]:
        assert series["quantities"]["param"][0] is None
        assert len(series["quantities"]["param"]) == STEPS
    assert all(series["param"][-1] > 0 for series in figures["ulps"]["series"])
    assert figures["rectification"]["curves"][0]["applied"]["default"] == [None] * CURVE_STEPS
    page = text_of(report(figures=figures).to_html())
    assert "NaN or infinity in place of a number" in page
