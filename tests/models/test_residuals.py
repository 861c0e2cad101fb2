"""Residual features by hand; the support vector machine and the network that start from them."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from emd_core.models.baselines.cozzolino import Cozzolino, CozzolinoConfig
from emd_core.models.baselines.residuals import co_occurrences, grey, residual_features, residual_levels
from emd_core.models.baselines.steganalysis import Steganalysis, SteganalysisConfig

STEGANALYSIS = SteganalysisConfig(kind="steganalysis", crop=48, size=32)
COZZOLINO = CozzolinoConfig(kind="cozzolino", crop=48, size=32)
PICTURE_5_5 = [
    [10, 12, 14, 16, 18],
    [10, 10, 10, 10, 14],
    [14, 10, 10, 10, 10],
    [10, 10, 11, 10, 10],
    [10, 10, 10, 11, 10],
]


def as_image(levels: list[list[int]]) -> Tensor:
    """Grey levels as an RGB image, 13HW in [0, 1]."""
    return torch.tensor(levels).expand(1, 3, -1, -1) / 255


def shares(**of: float) -> Tensor:
    """81 numbers, 0 but for those named: p1021=0.5 is the share of the pattern of levels 1, 0, 2, 1."""
    expected = torch.zeros(81)
    for pattern, share in of.items():
        expected[int(pattern.removeprefix("p"), base=3)] = share
    return expected


def crops(n: int = 40, size: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise as originals, noise that was smoothed a little as fakes, in turn."""
    noise = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
    label = torch.arange(n) % 2
    smooth = F.avg_pool2d(noise, 3, stride=1, padding=1)
    return torch.where(label[:, None, None, None] == 1, (noise + 2 * smooth) / 3, noise), label


def test_co_occurrences_of_a_5_by_5_picture_by_hand() -> None:
    picture = grey(as_image(PICTURE_5_5))
    across, down = residual_levels(picture), residual_levels(picture.mT).mT
    # a - 3b + 3c - d along the rows is (0, 0), (0, -4), (4, 0), (3, -3), (-1, 3). Levels: 0 up to -2, 2 from 2 on.
    assert across[0, 0].tolist() == [[1, 1], [1, 0], [2, 1], [2, 0], [1, 2]]
    # Down the columns it is (12, -12), (2, 0), (3, 3), (6, -1), (-4, 4).
    assert down[0, 0].tolist() == [[2, 2, 2, 2, 0], [0, 1, 2, 1, 2]]
    # Four neighbours in a column of the first, two in each; four in a row of the second.
    expected = shares(p1122=1 / 4, p1221=1 / 4, p1010=1 / 4, p0102=1 / 4)
    assert torch.equal(co_occurrences(across, 2)[0], expected)
    expected = shares(p2222=1 / 4, p2220=1 / 4, p0121=1 / 4, p1212=1 / 4)
    assert torch.equal(co_occurrences(down, 3)[0], expected)


def test_features_along_and_across_the_filter_by_hand() -> None:
    image = as_image([[10, 10, 10, 10, 14, 14, 10]] * 7)
    # Each row's residual is (0, -4, 8, 0), its levels 1021; a column's residual is 0, its levels 1111.
    along, across = residual_features(image)[0].split(81)
    assert torch.equal(along, shares(p1021=1 / 2, p1111=1 / 2))
    # Across the rows' filter: columns of 1, 0, 2 and 1, a quarter each; across the columns': 1 everywhere.
    assert torch.equal(across, shares(p0000=1 / 8, p2222=1 / 8, p1111=(1 / 2 + 1) / 2))


def test_pictures_of_a_batch_do_not_mix() -> None:
    image, _ = crops(4)
    together, alone = residual_features(image), [residual_features(x[None]) for x in image]
    assert torch.equal(together, torch.cat(alone))
    assert torch.allclose(together.sum(1), torch.tensor(2.0))


@pytest.fixture(scope="module")
def fitted() -> tuple[Steganalysis, Tensor]:
    model = Steganalysis(STEGANALYSIS)
    image, label = crops()
    loss = model.fit(zip(image.split(8), label.split(8), strict=True))
    return model.eval(), loss


def test_the_layer_is_the_support_vector_machine(fitted: tuple[Steganalysis, Tensor]) -> None:
    model, loss = fitted
    image, label = crops()
    features = residual_features(model.view(image)).double().numpy()
    machine = make_pipeline(StandardScaler(), LinearSVC(dual=False)).fit(features, label.numpy())
    decision = machine.decision_function(features)
    logits, mask = model(image)
    assert mask is None
    np.testing.assert_allclose((logits[:, 1] - logits[:, 0]).detach().numpy(), decision, atol=1e-3)
    assert ((logits.softmax(1)[:, 1] > 0.5) == torch.from_numpy(decision > 0)).all()
    hinge = np.maximum(0, 1 - (2 * label.numpy() - 1) * decision).mean()
    assert loss.shape == () and loss.item() == pytest.approx(hinge, abs=1e-5)


def test_it_tells_crops_that_it_has_not_learned_from(fitted: tuple[Steganalysis, Tensor]) -> None:
    image, label = crops(seed=1)
    assert (fitted[0](image)[0].argmax(1) == label).float().mean() >= 0.9


def test_the_fit_is_the_same_each_time(fitted: tuple[Steganalysis, Tensor]) -> None:
    again = Steganalysis(STEGANALYSIS)
    image, label = crops()
    loss = again.fit(zip(image.split(20), label.split(20), strict=True))
    assert torch.equal(loss, fitted[1])
    assert torch.equal(again.decision.weight, fitted[0].decision.weight)


def test_a_served_model_does_without_scikit_learn(
    fitted: tuple[Steganalysis, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, label = crops(4)
    expected = fitted[0](image)[0]
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    assert torch.equal(fitted[0](image)[0], expected)
    with pytest.raises(ImportError):
        fitted[0].fit([(image, label)])


def test_the_network_starts_as_the_features() -> None:
    noise, _ = crops(2)
    smooth = F.avg_pool2d(noise, 5, stride=1, padding=2)
    ramp = torch.linspace(0.2, 0.8, 48).expand(2, 3, 48, 48)  # all residuals next to a border: -1, 0 or 1
    for image, tolerance in ((noise, 0.01), (smooth, 0.01), (ramp, 0.07)):
        soft = Cozzolino(COZZOLINO).features(image)
        torch.testing.assert_close(soft, residual_features(image), atol=tolerance, rtol=0)


def test_sizes() -> None:
    # 162 shares and a bias; 4 taps, two banks of 81 code words of 4 with a bias each, 162 shares to 2 classes.
    assert sum(p.numel() for p in Steganalysis(STEGANALYSIS).parameters()) == 163
    assert sum(p.numel() for p in Cozzolino(COZZOLINO).parameters()) == 4 + 2 * 81 * 5 + 2 * 163


@pytest.mark.parametrize("model", [Steganalysis(STEGANALYSIS), Cozzolino(COZZOLINO)])
def test_autocast_changes_nothing(model: Steganalysis | Cozzolino) -> None:
    image, _ = crops(2)
    with torch.autocast("cpu", torch.bfloat16):
        within, _ = model(image)
    assert within.dtype == torch.float32
    assert torch.equal(within, model(image)[0])
