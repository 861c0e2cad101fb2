"""The networks have the structure, the freeze schedule and the checkpoints they claim."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from emd_core.detection.training import set_trainable
from emd_core.errors import UserError
from emd_core.models import checkpoint
from emd_core.models.build import NetworkConfig, build_detector
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.emd import EMD, EMDConfig
from emd_core.models.multitask import MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT, load_esr, save_esr
from emd_core.models.parts.esr import ESR, ESRConfig, pool_branches, vote
from emd_core.models.xception import DilatedDepthwise, XceptionEncoder

CONFIG = EMDConfig(kind="emd", size=64, expression=True, atrous_rates=(1, 2, 3), pixel_loss="mean")
FER = ESRConfig(size=64, branches=2)


@pytest.fixture(scope="module")
def emd() -> EMD:
    torch.manual_seed(0)
    return EMD(CONFIG, ESR(FER)).eval()


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_esr_9_has_the_published_size_and_shapes() -> None:
    esr = ESR(ESRConfig(size=96, branches=9)).eval()
    assert count(esr.base) == 374_784
    assert count(esr.branches[0]) == 2_219_418
    assert count(esr) == 20_349_546
    features, logits = esr(torch.zeros(1, 3, 96, 96))
    assert features.shape == (1, 9, 512, 6, 6)
    assert logits.shape == (1, 9, 8)


def test_eval_reaches_the_branches() -> None:
    esr = ESR(ESRConfig(size=64, branches=2)).eval()
    before = {name: b.clone() for name, b in esr.named_buffers()}
    esr(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(before[name], b) for name, b in esr.named_buffers())


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 6), (5, 7), (1, 1)])
def test_dilated_depthwise_is_a_plain_dilated_convolution(height: int, width: int) -> None:
    ours = DilatedDepthwise(8)
    theirs = torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(2, 8, height, width).to(memory_format=torch.channels_last)
    images = [image.clone().requires_grad_(), image.clone().requires_grad_()]
    outputs = [layer(image) for layer, image in zip((ours, theirs), images, strict=True)]
    for output in outputs:
        (output**2).sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(images[0].grad, images[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize(
    ("detected", "voted"),
    [([2, 2, 1], 2), ([1, 2, 0], 0), ([3, 1, 1, 3], 1), ([7, 7, 7], 7)],
    ids=["majority", "three-way tie", "two-way tie: the lowest class", "unanimous"],
)
def test_vote(detected: list[int], voted: int) -> None:
    logits_BKN = torch.nn.functional.one_hot(torch.tensor([detected]), 8).float()
    assert vote(logits_BKN).tolist() == [voted]


def test_pooling_takes_the_branch_that_is_surest_of_the_voted_class() -> None:
    # Branches 0 and 2 detect class 1; branch 1 is sure of class 0. Softmax, not the raw logit, decides:
    # branch 0 has the larger logit for class 1 but doubts more.
    logits_BKN = torch.tensor([[[4.0, 5.0, 4.9], [9.0, 0.0, 0.0], [0.0, 3.0, 0.0]]])
    features_BKChw = torch.arange(3.0).reshape(1, 3, 1, 1, 1)
    assert pool_branches(features_BKChw, logits_BKN).item() == 2.0


def test_pooling_chooses_per_sample() -> None:
    logits_BKN = torch.tensor([[[2.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]]])
    features_BKChw = torch.tensor([[10.0, 11.0], [20.0, 21.0]]).reshape(2, 2, 1, 1, 1)
    assert pool_branches(features_BKChw, logits_BKN).flatten().tolist() == [10.0, 21.0]


@pytest.mark.parametrize(("side", "latent", "low"), [(299, 19, 74), (96, 6, 23), (64, 4, 15)])
def test_encoder_shapes(side: int, latent: int, low: int) -> None:
    encoder = XceptionEncoder(extra_channels=512).eval()
    with torch.inference_mode():
        low_map, latent_map = encoder(torch.zeros(1, 3, side, side), torch.zeros(1, 512, 6, 6))
    assert low_map.shape == (1, 128, low, low)
    assert latent_map.shape == (1, 2048, latent, latent)


def test_without_dilation_the_encoder_is_timms_xception() -> None:
    """Same weights, stride put back: the same features as timm's own network, to the last bit."""
    reference = timm.create_model("legacy_xception", pretrained=False).eval()
    encoder = XceptionEncoder(extra_channels=0).eval()
    encoder.net.block12.skip.stride = (2, 2)
    encoder.net.block12.rep[-1].stride = 2
    for layer in (encoder.net.conv3, encoder.net.conv4):
        channels = layer.conv1.in_channels
        layer.conv1 = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    encoder.net.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    image = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(encoder(image)[1], reference.forward_features(image))


def test_output_shapes(emd: EMD) -> None:
    with torch.inference_mode():
        logits, mask = emd(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 2)
    assert mask.shape == (2, 1, 64, 64)


def test_expression_features_change_the_answer(emd: EMD) -> None:
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        given = emd.expression_features(image)
        assert torch.equal(emd(image)[0], emd(image, given)[0])
        assert not torch.allclose(emd(image)[0], emd(image, given + 1)[0])


def test_warm_up_trains_exactly_conv4_its_norm_decoder_and_heads(emd: EMD) -> None:
    set_trainable(emd, warmup=True)
    trained = {name.rsplit(".", 1)[0] for name, p in emd.named_parameters() if p.requires_grad}
    encoder = {"encoder.net.conv4.conv1", "encoder.net.conv4.pointwise", "encoder.net.bn4"}
    assert {n for n in trained if n.startswith("encoder.")} == encoder
    assert {n.split(".")[0] for n in trained} == {"encoder", "decoder", "fc", "mask"}
    assert {n for n, m in emd.encoder.net.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and m.training} == {
        "bn4"
    }
    set_trainable(emd, warmup=False)
    trained = {name for name, p in emd.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in emd.named_parameters() if not name.startswith("fer.")}
    emd.eval()


VARIANTS: dict[str, tuple[NetworkConfig, int | None]] = {
    "EMD": (CONFIG, 2),
    "Xception without FER": (CONFIG.model_copy(update={"expression": False}), None),
    "Xception with SimFER": (CONFIG, 1),
    "MultiTask": (MultiTaskConfig(kind="multitask", size=32, expression=False), None),
    "MultiTask with EnsFER": (MultiTaskConfig(kind="multitask", size=32, expression=True), 2),
    "MultiTask with SimFER": (MultiTaskConfig(kind="multitask", size=32, expression=True), 1),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_learns_and_the_expression_network_never_moves(name: str, tmp_path: Path) -> None:
    """Shapes, gradients everywhere but in phi, whose parameters and batch statistics stay, and a checkpoint."""
    config, branches = VARIANTS[name]
    torch.manual_seed(0)
    model = build_detector(config, None if branches is None else ESR(ESRConfig(size=64, branches=branches)))
    set_trainable(model, warmup=False)
    phi = {} if model.fer is None else {k: v.clone() for k, v in model.fer.state_dict().items()}
    theta = {k: v.clone() for k, v in model.named_parameters() if not k.startswith("fer.")}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    image, label, known = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 1, 0]), torch.tensor([True, True, False, True])
    mask = torch.randint(0, 2, (4, 1, 64, 64)).float()
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(image, label, mask, known).backward()
        optimizer.step()
    assert all(torch.equal(phi[k], v) for k, v in (model.fer.state_dict() if model.fer else {}).items())
    assert not [k for k, v in model.named_parameters() if k in theta and torch.equal(v, theta[k])]
    save_detector(tmp_path / "model.safetensors", model)
    loaded = load_detector(tmp_path / "model.safetensors")
    assert loaded.config == config
    with torch.inference_mode():
        expected, got = model.eval()(image), loaded(image)
    assert got[0].shape == (4, 2)
    assert got[1].shape == (4, 1, 64, 64)
    assert torch.equal(expected[0], got[0])
    assert torch.equal(expected[1], got[1])


def test_a_variant_without_the_expression_network_it_asks_for_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="expression is True, but fer is NoneType"):
        build_detector(CONFIG, None)


def test_checkpoints_describe_themselves(emd: EMD, tmp_path: Path) -> None:
    save_detector(tmp_path / "emd.safetensors", emd)
    loaded = load_detector(tmp_path / "emd.safetensors")
    assert loaded.config == CONFIG
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(image)[0], emd(image)[0])
    save_esr(tmp_path / "esr.safetensors", emd.fer)
    assert load_esr(tmp_path / "esr.safetensors").config == FER


def test_equal_weights_give_equal_bytes(emd: EMD, tmp_path: Path) -> None:
    """The digest of the file is the model's name in metrics, decision and registry."""
    written = set()
    for _ in range(6):
        save_esr(tmp_path / "esr.safetensors", emd.fer)
        written.add((tmp_path / "esr.safetensors").read_bytes())
    assert len(written) == 1


def test_weights_that_are_no_numbers_are_neither_written_nor_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path = ESR(FER), tmp_path / "esr.safetensors"
    with torch.no_grad():
        network.base.conv1.weight[0] = torch.nan
    with pytest.raises(UserError, match=r"is not written, as 1 of its \d+ tensors are not finite, first base"):
        save_esr(path, network)
    assert not path.exists()
    with monkeypatch.context() as patched:
        patched.setattr("emd_core.models.parts.checkpoint.not_finite", lambda weights: "")  # as older versions did
        save_esr(path, network)
    with pytest.raises(UserError, match="is of no use, as 1 of its"):
        load_esr(path)


def test_a_wrong_checkpoint_is_refused(emd: EMD, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_detector(tmp_path / "none.safetensors")
    path = tmp_path / "esr.safetensors"
    save_esr(path, emd.fer)
    with pytest.raises(UserError, match="holds kind 'esr'.*not 'detector'"):
        load_detector(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_esr(path)


@pytest.mark.parametrize("key", ["network", "fer", "calibration", "rule"])
def test_a_checkpoint_of_a_later_version_is_no_broken_file(
    emd: EMD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    path = tmp_path / CHECKPOINT
    save = checkpoint.save_network

    def later(path: Path, kind: str, model: torch.nn.Module, config: dict[str, Any]) -> None:
        save(path, kind, model, config | {key: (config[key] or {}) | {"new": 1}})

    monkeypatch.setattr(checkpoint, "save_network", later)
    checkpoint.save_detector(path, emd)
    load = {"calibration": checkpoint.load_calibration, "rule": checkpoint.load_rule}.get(key, load_detector)
    with pytest.raises(UserError, match="not a checkpoint of this version .*; load it with the version that wrote"):
        load(path)


def test_xception_has_the_published_size() -> None:
    classifier = 2048 * 1000 + 1000
    assert count(XceptionEncoder(extra_channels=0)) + classifier == 22_855_952


def faceforensics_style(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of FaceForensics++'s detectors, and matrices for 1x1 kernels as in the oldest ImageNet file."""
    renamed = {f"model.{k.replace('fc.', 'last_linear.1.')}": v for k, v in state.items()}
    return {k: v[:, :, 0, 0] if "pointwise" in k else v for k, v in renamed.items()}


@pytest.mark.parametrize("rename", [dict, faceforensics_style], ids=["timm", "FaceForensics++"])
def test_published_xception_weights(tmp_path: Path, rename: Callable[..., dict[str, torch.Tensor]]) -> None:
    reference = timm.create_model("legacy_xception", pretrained=False)
    file = tmp_path / "xception.pth"
    torch.save(rename(reference.state_dict()), file)
    encoder = XceptionEncoder(extra_channels=512)
    fresh = encoder.net.conv4.pointwise.weight.clone()
    encoder.load_weights(str(file))
    assert torch.equal(encoder.net.conv1.weight, reference.conv1.weight)
    assert torch.equal(encoder.net.block5.rep[1].pointwise.weight, reference.block5.rep[1].pointwise.weight)
    assert torch.equal(encoder.net.bn3.running_var, reference.bn3.running_var)
    assert torch.equal(encoder.net.conv4.pointwise.weight, fresh)


def test_wrong_xception_weights_are_refused(tmp_path: Path) -> None:
    encoder, file = XceptionEncoder(extra_channels=512), tmp_path / "xception.pth"
    state = timm.create_model("legacy_xception", pretrained=False).state_dict()
    del state["block5.rep.1.conv1.weight"]
    torch.save(state, file)
    with pytest.raises(UserError, match=r"xception\.pth.*block5\.rep\.1\.conv1\.weight"):
        encoder.load_weights(str(file))
    with pytest.raises(UserError, match="is not a file"):
        encoder.load_weights(str(tmp_path / "none.pth"))
