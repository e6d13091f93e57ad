"""The figures and tables of README.md are what is computed, and what is computed is what it says."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

import reference
from reference import statistical_tests
from reference.ema import SecondMoment, r_true
from reference.monte_carlo import simulate
from tests.statistics import figures
from tests.statistics.false_alarm import ALPHA, statistical

TRAJECTORIES, MEANS, NUMBER = 200, (0.0, 1.0, 10.0), 30
PLACES = ((0.0, 41), (1.0, 7), (10.0, 258))
"""mean and t."""


def assert_rounds_to(value: float, printed: str) -> None:
    """The value is the printed one, to its last digit."""
    mantissa, _, exponent = printed.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    assert abs(value - float(printed)) <= 0.5001 * unit


# The numbers: found beforehand by other means, and printed


@pytest.mark.parametrize(
    ("rho", "exact", "first_order", "difference", "percent"),
    [
        (5, ".251956061", ".833333", ".581377", "230.7"),
        (6, ".174640599", ".375", ".200359", "114.7"),
        (8, ".106148703", ".166667", ".060518", "57.0"),
        (10, ".0755459593", ".104166667", ".0286207", "37.9"),
        (20, ".0304240847", ".0347222", ".0042981", "14.1"),
        (50, ".0107935998", ".01132246", ".0005289", "4.90"),
        (100, ".00519281575", ".00531462585", ".0001218", "2.35"),
        (500, ".0010075417", ".00101211297", ".0000046", "0.454"),
    ],
)
def test_variance_of_psi(rho: int, exact: str, first_order: str, difference: str, percent: str) -> None:
    columns = figures.variance_of_psi()
    (row,) = np.flatnonzero(columns["rho"] == rho)
    for name, printed in {"exact": exact, "first_order": first_order, "difference": difference}.items():
        assert_rounds_to(columns[name][row], printed)
    assert_rounds_to(100 * columns["relative_difference"][row], percent)


def test_the_first_order_has_no_variance_up_to_4() -> None:
    columns = figures.variance_of_psi()
    assert columns["rho"].min() > 2
    assert not np.isnan(columns["exact"]).any()
    assert np.array_equal(np.isnan(columns["first_order"]), columns["rho"] <= 4)


def test_where_the_first_order_is_accurate() -> None:
    columns = figures.accuracy_table().columns
    assert [columns[share][0] for share in ("100%", "50%", "10%", "5%", "1%")] == [7, 9, 27, 50, 230]
    assert (np.diff(figures.variance_of_psi(np.arange(5, 501))["relative_difference"]) < 0).all()


@pytest.mark.parametrize(
    ("mean", "t", "variance", "rectified"),
    [
        (0.0, 6, ".174641", "1.1644e-4"),
        (0.0, 10, ".0755465", "1.8137e-4"),
        (0.0, 100, ".00519705", "2.4098e-4"),
        (0.0, 1000, "5.42979e-4", "2.26121e-4"),
        (0.0, 1500, "3.9458e-4", "2.24154e-4"),
        (0.0, 6000, "2.51588e-4", "2.47835e-4"),
        (0.1, 6, ".172899", ""),
        (0.1, 6000, "2.49073e-4", "2.45357e-4"),
        (1.0, 6, ".062073", "4.139e-5"),
        (1.0, 6000, "9.43561e-5", "9.29486e-5"),
        (10.0, 6, "1.65418e-5", "1.103e-8"),
        (10.0, 6000, "4.90402e-8", "4.83086e-8"),
    ],
)
def test_variance_of_the_rate(mean: float, t: int, variance: str, rectified: str) -> None:
    columns = figures.variance_of_the_rate([simulate(figures.BETA2, [t], 2, mean=mean)])
    assert_rounds_to(columns["exact"][0], variance)
    if rectified:
        assert_rounds_to(columns["rectified_exact"][0], rectified)


RATIOS = {  # t: paper / true
    0.9: {5: ".4645", 6: ".6347", 10: ".8258", 100: ".9998"},
    0.99: {5: ".5431", 6: ".6780", 10: ".8474", 100: ".9437"},
    0.995: {5: ".5465", 6: ".6802", 10: ".8494", 100: ".9585"},
    0.999: {5: ".5492", 6: ".6820", 7: ".7530", 8: ".7977", 10: ".8512", 100: ".9811"},
    0.9995: {5: ".5495", 6: ".6822", 10: ".8514", 100: ".9847"},
    0.9999: {5: ".5498", 6: ".6824", 10: ".8516", 100: ".9877"},
}
DIPS = {
    0.99: ("5.78", 133),
    0.995: ("5.54", 285),
    0.999: ("5.38", 1485),
    0.9995: ("5.36", 2984),
    0.9999: ("5.34", 14976),
}
LAST_OFF = {0.9: 52, 0.99: 508, 0.995: 1014, 0.999: 5065, 0.9995: 10129, 0.9999: 50640}


def test_ratios() -> None:
    columns = figures.ratios_table().columns
    for row, beta2 in enumerate(columns["beta2"]):
        assert np.isnan([columns["t = 3"][row], columns["t = 4"][row]]).all()
        for t, printed in RATIOS.get(beta2, {}).items():
            assert_rounds_to(columns[f"t = {t}"][row], printed)
        assert (columns["dip"][row] is None) == (beta2 not in DIPS)
        if beta2 in DIPS:
            assert_rounds_to(100 * columns["dip"][row], DIPS[beta2][0])
            assert columns["at t"][row] == DIPS[beta2][1]
        if beta2 in LAST_OFF:
            assert columns["off by > 1% until t"][row] == LAST_OFF[beta2]


def test_exact_against_true() -> None:
    columns = figures.exact_table().columns
    printed = {0.9: "4.5", 0.98: ".98", 0.99: ".50", 0.995: ".25", 0.999: ".050", 0.9999: ".005"}
    for beta2, error, t in zip(columns["beta2"], columns["largest error"], columns["at t"], strict=True):
        assert t == 3
        if beta2 in printed:
            assert_rounds_to(100 * error, printed[beta2])


def test_every_step_has_what_the_drawn_ones_show() -> None:
    """Nothing happens between the steps of the logarithmic grid."""
    every = figures.rectification(0.99, np.arange(3, figures.last_step(0.99) + 1))
    t, ratio = every["t"], every["paper/true"]
    depth, place = figures.dip(0.99) or (0.0, 0)
    later = t >= 60
    assert ratio[t == place] == ratio[later].min() == 1 - depth
    assert t[np.abs(ratio - 1) > figures.OFF][-1] == figures.last_off(0.99)
    assert (np.diff(every["exact/true"]) < 0).all()


@pytest.mark.parametrize("beta2", figures.DRAWN)
def test_the_rectifications_are_those_of_the_reference(beta2: float) -> None:
    # paper: rho_t and four operations, at most 8 times as sensitive to rho_t - 4, below 32 units of 2^-53.
    # exact: below 16 units in each variance, and the rounding of n_t. true: 1e-12 in the variance, halved by the root.
    t = np.array([3, 5, 20, 90])
    columns = figures.rectification(beta2, t)
    for row, step in enumerate(t.tolist()):
        assert columns["rho_t"][row] == reference.rho_t(step, beta2)
        assert columns["n_t"][row] == reference.n_eff(step, beta2)
        assert columns["exact"][row] == pytest.approx(reference.exact_r_t(step, beta2), rel=32 * 2**-53, abs=0)
        assert columns["true"][row] == pytest.approx(r_true(step, beta2), rel=1e-12, abs=0)
        if step >= 5:
            assert columns["paper"][row] == pytest.approx(reference.r_t(step, beta2), rel=32 * 2**-53, abs=0)


@pytest.mark.parametrize("beta2", figures.TABULATED)
def test_what_the_text_says(beta2: float) -> None:
    columns = figures.rectification(beta2)
    t, of_rho = columns["t"], columns["exact_of_rho/true"]
    first_order = columns["paper"] / columns["exact_of_rho"]
    adaptive = t >= 5
    # Both errors make r_t too small at every step, the first order more at first.
    assert (of_rho < 1).all()
    assert (first_order[adaptive] < 1).all()
    assert np.isnan(first_order[~adaptive]).all()
    assert (first_order < of_rho)[t == 5].all()
    # rho_t is most wrong near t = 1.5 / (1 - beta2), and there the larger error from beta2 = 0.98 on.
    worst = int(np.argmin(of_rho))
    assert 1.35 < t[worst] * (1 - beta2) < 1.65
    assert (of_rho < first_order)[worst] == (beta2 >= 0.98)
    # The error of the exact one is largest at first, falls at every step, and is about half of 1 - beta2.
    error = columns["exact/true"] - 1
    assert (np.diff(error) < 0).all()
    assert 0.9 < error[0] / ((1 - beta2) / 2) < 1
    assert error[-1] > 0


# The simulation


@functools.lru_cache
def interval(mean: float, t: int) -> tuple[float, float]:
    """What contains the mean of log Q_t: the sample variance of psi_t, whose tails are heavy, has no such bound."""
    domain = (-0.9 * min(t / 2, 10), 1.9)
    moment = SecondMoment(t, figures.BETA2, mean).moment
    return statistical_tests.chernoff_interval(
        TRAJECTORIES, moment, ALPHA / len(PLACES), domain=domain, mgf_error=1e-11
    )


@statistical
def test_what_is_simulated_follows_the_exact_law(seed: int) -> None:
    simulated = {each.mean: each for each in figures.simulations(TRAJECTORIES, seed, MEANS, NUMBER)}
    for mean, t in PLACES:
        low, high = interval(mean, t)
        assert low <= simulated[mean][t].log_mean.value <= high


def test_what_is_drawn_is_what_is_simulated() -> None:
    simulated = figures.simulations(TRAJECTORIES, 1, MEANS, NUMBER)
    columns = figures.variance_of_the_rate(simulated)
    row = 0
    for simulation in simulated:
        for t, estimates in simulation.steps.items():
            assert (columns["mean"][row], columns["t"][row]) == (simulation.mean, t)
            estimate, square = estimates.psi_variance, columns["r_t^2"][row]
            assert columns["simulated"][row] == estimate.value
            # Intervals exist from t = 9 on, r_t from t = 5.
            assert (estimate.interval is None) == bool(np.isnan(columns["low"][row])) == (t < 9)
            assert bool(np.isnan(square)) == (t < 5)
            if t >= 5:
                assert square == pytest.approx(reference.r_t(t, figures.BETA2) ** 2, rel=64 * 2**-53, abs=0)
                assert columns["rectified_simulated"][row] == square * estimate.value
                assert columns["rectified_exact"][row] == square * columns["exact"][row]
            if estimate.interval is not None:
                assert (columns["low"][row], columns["high"][row]) == estimate.interval
            row += 1
    assert row == len(columns["t"])


def test_each_mean_has_random_numbers_of_its_own() -> None:
    assert len({each.seed for each in figures.simulations(2, 0, figures.MEANS, 2)}) == len(figures.MEANS)


# README.md and the files


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.deep] * (name in figures.SLOW)) for name in figures.TABLES]
)
def test_the_tables_of_the_readme_are_those_of_the_command(name: str) -> None:
    table = figures.TABLES[name]()
    text = figures.README.read_text(encoding="utf-8")
    assert f"<!-- table: {name} -->\n\n{table.markdown()}\n<!-- end -->" in text
    assert (figures.FIGURES / f"{name}.md").read_text(encoding="utf-8") == table.markdown()


@pytest.mark.parametrize("name", ["variance_of_psi", "rectification"])
def test_the_figures_are_of_these_numbers(name: str) -> None:
    columns = {"variance_of_psi": figures.variance_of_psi, "rectification": figures.rectifications}[name]()
    written = np.genfromtxt(figures.FIGURES / f"{name}.csv", delimiter=",", names=True, deletechars="")
    assert list(written.dtype.names or ()) == list(columns)
    # 12 digits are written; those of the variance that are right are 12 too.
    for key, values in columns.items():
        assert written[key] == pytest.approx(values, rel=1e-11, abs=0, nan_ok=True)


def test_the_readme_shows_what_the_command_writes() -> None:
    text = figures.README.read_text(encoding="utf-8")
    shown = {
        name for name in ("variance_of_psi", "variance_of_the_rate", "rectification") if f"(figures/{name}.svg)" in text
    }
    assert len(shown) == text.count(".svg)") == 3
    assert all((figures.FIGURES / f"{name}.{kind}").is_file() for name in shown for kind in ("svg", "png", "csv"))


def test_the_quick_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = figures.README.read_bytes()
    assert figures.main(["--quick", "--out", str(tmp_path / "new"), "--seed", "3"]) == 0
    assert figures.README.read_bytes() == before
    assert "3 figures and 5 tables" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "new").iterdir()}
    drawn = {
        f"{n}.{kind}"
        for n in ("variance_of_psi", "variance_of_the_rate", "rectification")
        for kind in ("svg", "png", "csv")
    }
    assert names == drawn | {f"{n}.{kind}" for n in set(figures.TABLES) - figures.SLOW for kind in ("csv", "md")}
    for path in (tmp_path / "new").iterdir():
        data = path.read_bytes()
        assert data.startswith({".svg": b"<?xml", ".png": b"\x89PNG"}.get(path.suffix, b""))
        assert len(data) > 50


@pytest.mark.deep
def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("one", "other"):
        figures.main(["--out", str(tmp_path / name), "--trajectories", "2"])
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    of_others = {"mechanisms", "updates"}
    assert set(written[0]) == {path.name for path in figures.FIGURES.iterdir() if path.stem not in of_others}
    for name in figures.TABLES:
        assert written[0][f"{name}.md"] == (figures.FIGURES / f"{name}.md").read_bytes()


def test_tables_take_the_places_that_are_marked() -> None:
    text = "before\n<!-- table: a -->\nold\n<!-- end -->\nafter\n"
    assert figures.with_tables(text, {"a": "new\n"}) == "before\n<!-- table: a -->\n\nnew\n\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="there is no table 'a'"):
        figures.with_tables(text, {})
    with pytest.raises(ValueError, match="the table 'b' must have one place in the text, but has 0"):
        figures.with_tables(text, {"a": "new\n", "b": "new\n"})
    with pytest.raises(ValueError, match="the table 'a' must have one place in the text, but has 2"):
        figures.with_tables(2 * text, {"a": "new\n"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trajectories", "1"], "--trajectories must be at least 2, but is 1"),
        (["--seed", "-1"], "--seed must be at least 0, but is -1"),
        (["--quick"], "--quick needs --out"),
        (["--out", "/nowhere/figures"], "--out /nowhere/figures: there is no folder /nowhere"),
        (["--out", __file__], "is not a folder"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        figures.main(arguments)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
