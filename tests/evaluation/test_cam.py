"""Class activation maps against a naive loop."""

import numpy as np
import torch
import torch.nn.functional as F

from emd_core.evaluation.cam import class_activation_map
from emd_core.models.parts.esr import ESR, ESRConfig


def network(seed: int) -> ESR:
    torch.manual_seed(seed)
    fer = ESR(ESRConfig(size=62, branches=3)).eval()
    with torch.no_grad():
        for branch in fer.branches:
            branch.fc.weight.mul_(40)  # makes the branches disagree
    return fer


def naive(fer: ESR, image_3HW: torch.Tensor) -> tuple[np.ndarray, int, int]:
    """Map, class and picked branch of one image, by loops."""
    small = F.interpolate(image_3HW[None], (62, 62), mode="bilinear", antialias=True, align_corners=False)
    features, logits = (x[0].detach().double().numpy() for x in fer(small))
    votes = [0] * 8
    for k in range(3):
        votes[int(logits[k].argmax())] += 1
    voted = votes.index(max(votes))
    sureness = [np.exp(row[voted]) / np.exp(row).sum() for row in logits]
    picked = int(np.argmax(sureness))
    cam = np.zeros(features.shape[2:])
    for channel, weight in enumerate(fer.branches[picked].fc.weight[voted].tolist()):
        cam += weight * features[picked, channel]
    cam = np.maximum(cam, 0)
    return (cam / cam.max() if cam.max() > 0 else cam), voted, picked


def test_against_a_loop() -> None:
    branches = set()
    for seed in range(6):  # a random network picks one branch for nearly every image
        fer = network(seed)
        images = torch.rand(3, 3, 80, 80) * torch.rand(3, 3, 1, 1)
        cam, expression = class_activation_map(fer, images)
        maps, voted, picked = zip(*(naive(fer, image) for image in images), strict=True)
        assert expression.tolist() == list(voted)
        np.testing.assert_allclose(cam.numpy(), np.stack(maps), atol=1e-4)
        assert cam.min() >= 0 and cam.max() == 1
        branches |= set(picked)
    assert len(branches) > 1  # or the choice of the branch would not be tested


def test_nothing_for_the_class_is_a_map_of_zeros() -> None:
    fer = network(0)
    with torch.no_grad():
        for branch in fer.branches:
            branch.fc.weight.fill_(-1)  # maps are never negative, so all of them speak against every class
    cam, _ = class_activation_map(fer, torch.rand(2, 3, 62, 62))
    assert (cam == 0).all()
