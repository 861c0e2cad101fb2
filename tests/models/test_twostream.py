"""Two streams: patches cut and told apart by hand, their scores joined, the face stream's weights downloaded or not."""

from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError

from emd_core.errors import UserError
from emd_core.models.baselines.twostream import TwoStream, TwoStreamConfig, cut, triplet_loss

CONFIG = TwoStreamConfig(kind="twostream", size=48, face="test_resnet", patches=2)


def test_its_size_by_hand() -> None:
    """Inception v3 without its classifier has 21,785,568 weights."""
    config = CONFIG.model_copy(update={"size": 299, "face": "inception_v3"})
    patches = 2 * 162 + (162 + 1) * 128 + (128 + 1) * 64 + (64 + 1) * 2
    assert sum(p.numel() for p in TwoStream(config).parameters()) == 21_785_568 + (2048 + 1) * 2 + patches


def test_shapes() -> None:
    model = TwoStream(CONFIG)
    logits, mask = model(torch.rand(2, 3, 56, 56))
    assert logits.shape == (2, 2)
    assert mask is None
    face, embedding, patch = model.streams(torch.rand(2, 3, 48, 48))
    assert (face.shape, embedding.shape, patch.shape) == ((2, 2), (2, 4, 64), (2, 4, 2))
    torch.testing.assert_close(embedding.norm(dim=2), torch.ones(2, 4))


def test_patches_lie_side_by_side() -> None:
    image = torch.arange(25.0).view(1, 1, 5, 5).expand(2, 3, 5, 5)
    found = cut(image, 2)
    assert found.shape == (2, 4, 3, 2, 2)
    assert found[1, :, 2].flatten(1).tolist() == [[0, 1, 5, 6], [2, 3, 7, 8], [10, 11, 15, 16], [12, 13, 17, 18]]


def test_triplets_by_hand() -> None:
    """Patches a, b of one image and c, d of another: each with its own sibling and the nearer of the others."""
    a, b, c, d = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]
    ab, cd = 2**0.5, 3.2**0.5
    ac, bc, bd = 0.8**0.5, 0.4**0.5, 2**0.5
    expected = ((ab - ac) + (ab - bc) + (cd - bc) + (cd - bd)) / 4 + 0.2
    assert triplet_loss(torch.tensor([[a, b], [c, d]])).item() == pytest.approx(expected, abs=1e-5)
    assert triplet_loss(torch.tensor([[a, a], [d, d]])).item() == 0  # 2 apart, which is more than the margin


def test_the_score_joins_both_streams() -> None:
    model = TwoStream(CONFIG).eval()
    for layer, bias in ((model.face_class, 2.0), (model.patch_class, 4.0)):
        torch.nn.init.zeros_(layer.weight)
        layer.bias.data = torch.tensor([0.0, bias])
    assert model(torch.rand(2, 3, 48, 48))[0].tolist() == [[0, 3], [0, 3]]


def test_the_loss_is_that_of_faces_patches_and_triplets() -> None:
    model = TwoStream(CONFIG).eval()
    image, label = torch.rand(2, 3, 48, 48), torch.tensor([1, 0])
    with torch.inference_mode():
        face, embedding, patch = (x.double() for x in model.streams(image))
        right = -face.log_softmax(1)[[0, 1], label].mean() - patch.log_softmax(2)[[0, 1], :, label].mean()
        loss = model.loss(image, label, torch.zeros(2, 1, 48, 48), torch.tensor([True, True]))
    torch.testing.assert_close(loss.double(), right + triplet_loss(embedding), atol=1e-5, rtol=0)


def test_imagenet_weights_are_the_face_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    def downloaded(name: str, *, pretrained: bool, num_classes: int) -> Any:
        assert (name, pretrained) == ("test_resnet", True)
        torch.manual_seed(1)
        return create(name, num_classes=num_classes)

    create, model = timm.create_model, TwoStream(CONFIG)
    monkeypatch.setattr(timm, "create_model", downloaded)
    model.load_published("imagenet")
    expected = downloaded("test_resnet", pretrained=True, num_classes=0).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.face.state_dict().items())


def test_a_failed_download_or_other_weights_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError

    model = TwoStream(CONFIG)
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"test_resnet could not be downloaded \(OSError\); set"):
        model.load_published("imagenet")
    with pytest.raises(UserError, match="must be 'imagenet'"):
        model.load_published("weights.pt")


def test_the_face_stream_is_a_network_of_timm() -> None:
    with pytest.raises(ValidationError, match="timm has no network 'inception_v33'"):
        TwoStreamConfig(kind="twostream", size=48, face="inception_v33", patches=2)
