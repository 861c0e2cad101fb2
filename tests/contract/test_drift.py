"""The drift from a profile is 0 for the same data, however tied, and near the distance of all values for others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from emd_core.contract.drift import drifts, kolmogorov_smirnov, make_profile, quantiles, read_profile, write_profile
from emd_core.errors import UserError
from emd_core.pages.contract_figures import bin_edges, shares

RNG = np.random.default_rng(0)
VALUES = {
    "normal": RNG.normal(300, 50, 5000),
    "ties": RNG.integers(1, 4, 999),
    "one value": np.full(7, 3.0),
    "few": np.array([1.0, 5.0]),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_the_same_values_do_not_drift(values: np.ndarray) -> None:
    assert kolmogorov_smirnov(quantiles(values), RNG.permutation(values)) < 1e-9


@pytest.mark.parametrize("shift", [5, 25, 100, 1000])
def test_the_distance_is_that_of_all_values_but_for_the_steps(shift: int) -> None:
    values = VALUES["normal"]
    exact = ks_2samp(values, values + shift).statistic
    assert exact - 0.05 <= kolmogorov_smirnov(quantiles(values), values + shift) <= exact + 1e-9


def crops() -> pd.DataFrame:
    side, sharpness = RNG.integers(90, 200, 200), RNG.lognormal(4, 1, 200).astype(np.float32)
    return pd.DataFrame({"quality": ["c23", "c40"] * 100, "side": side, "sharpness": sharpness})


def test_a_profile_comes_back_and_each_quality_has_its_own(tmp_path: Path) -> None:
    before = crops()
    write_profile(tmp_path / "profile.json", make_profile(before, "m"))
    reference = read_profile(tmp_path / "profile.json")
    assert reference == make_profile(before.sample(frac=1, random_state=0), "m")
    after = before.assign(side=before["side"] + 200 * (before["quality"] == "c40"))
    after.loc[0, "quality"] = "c0"
    after.loc[2, "sharpness"] = np.nan  # a gap is another expectation's matter
    drift = drifts(reference, after).set_index("name")["drift"]
    assert drift[["side/c23", "side/c40"]].round(1).tolist() == [0.0, 1.0]
    assert drift[["side/c0", "sharpness/c0"]].isna().all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"masks": 1}', "valid string"),
        ("[]", "should be an object"),
        (None, "not exist"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "profile.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_profile(tmp_path / "profile.json")


def test_falling_quantiles_are_refused(tmp_path: Path) -> None:
    write_profile(tmp_path / "profile.json", make_profile(crops(), "m"))
    text = (tmp_path / "profile.json").read_text()
    last = f"{read_profile(tmp_path / 'profile.json').qualities['c23'].side[-1]}"
    (tmp_path / "profile.json").write_text(text.replace(last, "1.0"))
    with pytest.raises(UserError, match="quantiles must not fall"):
        read_profile(tmp_path / "profile.json")


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [*VALUES.values(), np.zeros(3), np.array([])], ids=[*VALUES, "zeros", "none"])
def test_every_value_lies_in_a_bin(values: np.ndarray, log: bool) -> None:
    edges = bin_edges(values, log=log)
    assert np.all(np.diff(edges) > 0)
    assert len(values) == 0 or shares(values, edges).sum() == pytest.approx(1)
