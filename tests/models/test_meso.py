"""MesoNet computes what the published networks compute, from files of the published form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from emd_core.errors import UserError
from emd_core.models.baselines.meso import MesoConfig, MesoNet

File = dict[str, dict[str, np.ndarray]]  # the weights of a Keras file by layer and name
SHAPES = {
    "meso4": [(3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), (5, 5, 16, 16)],
    "mesoinception4": [
        *[(1, 1, 3, 1), (1, 1, 3, 4), (3, 3, 4, 4), (1, 1, 3, 4), (3, 3, 4, 4), (1, 1, 3, 2), (3, 3, 2, 2)],
        *[(1, 1, 11, 2), (1, 1, 11, 4), (3, 3, 4, 4), (1, 1, 11, 4), (3, 3, 4, 4), (1, 1, 11, 2), (3, 3, 2, 2)],
        *[(5, 5, 12, 16), (5, 5, 16, 16)],
    ],
}
NORMS = {"meso4": (8, 8, 16, 16), "mesoinception4": (11, 12, 16, 16)}


def make(kind: str, first: int = 7) -> File:
    """Random weights; the layers of each sort are numbered from `first` on, past 9, where names sort otherwise."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

    file: File = {}
    for n, shape in enumerate(SHAPES[kind]):
        file[f"conv2d_{first + n}"] = {"kernel": draw(*shape), "bias": draw(shape[-1])}
    for n, channels in enumerate(NORMS[kind]):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        file[f"batch_normalization_{first + n}"] = {name: abs(draw(channels)) for name in names}
    file[f"dense_{first}"] = {"kernel": draw(1024, 16), "bias": draw(16)}
    file[f"dense_{first + 1}"] = {"kernel": draw(16, 1), "bias": draw(1)}
    return file


def write(path: Path, weights: File) -> str:
    """As Keras 2 writes it: a group for each layer, those without weights too."""
    with h5py.File(path, "w") as file:
        for layer in [*weights, "flatten_2"]:
            file.create_group(layer)
            for name, array in weights.get(layer, {}).items():
                file[f"{layer}/{layer}/{name}:0"] = array
    return str(path)


def published(kind: str, weights: File, image_BSS3: np.ndarray) -> np.ndarray:
    """The log-odds that a face is real (the published sigmoid's input), written out channels last."""
    numbered = sorted(weights, key=lambda layer: int(layer.split("_")[-1]))
    convolutions, norms, dense = (
        iter([weights[layer] for layer in numbered if layer.startswith(name)]) for name in ("conv", "batch", "dense")
    )

    def convolve(x: np.ndarray, dilation: int = 1) -> np.ndarray:
        layer = next(convolutions)
        side = layer["kernel"].shape[0]
        near = dilation * (side // 2)
        padded = np.pad(x, ((0, 0), (near, near), (near, near), (0, 0)))
        y = sum(
            padded[:, dilation * i :, dilation * j :][:, : x.shape[1], : x.shape[2]] @ layer["kernel"][i, j]
            for i in range(side)
            for j in range(side)
        )
        return np.maximum(y + layer["bias"], 0)

    def norm_and_pool(x: np.ndarray, side: int) -> np.ndarray:
        layer = next(norms)
        x = (x - layer["moving_mean"]) / np.sqrt(layer["moving_variance"] + 1e-3) * layer["gamma"] + layer["beta"]
        B, H, W, C = x.shape
        return x.reshape(B, H // side, side, W // side, side, C).max(axis=(2, 4))

    x = image_BSS3
    for _ in range(2):
        if kind == "meso4":
            x = convolve(x)
        else:
            branches = [convolve(x)]
            for dilation in (1, 2, 3):
                branches.append(convolve(convolve(x), dilation))
            x = np.concatenate(branches, axis=-1)
        x = norm_and_pool(x, 2)
    x = norm_and_pool(convolve(x), 2)
    x = norm_and_pool(convolve(x), 4)
    first, second = dense
    x = x.reshape(len(x), -1) @ first["kernel"] + first["bias"]
    return (np.where(x > 0, x, 0.1 * x) @ second["kernel"] + second["bias"])[:, 0]


def network(kind: str, size: int = 256) -> MesoNet:
    return MesoNet(MesoConfig.model_validate({"kind": kind, "size": size}))


@pytest.mark.parametrize(("kind", "parameters"), [("meso4", 28_073), ("mesoinception4", 28_725)])
def test_they_have_the_published_size(kind: str, parameters: int) -> None:
    """Keras counts the batch norms' statistics too."""
    state = network(kind).state_dict()
    assert (
        sum(tensor.numel() for name, tensor in state.items() if not name.endswith("num_batches_tracked")) == parameters
    )


@pytest.mark.parametrize("kind", ["meso4", "mesoinception4"])
def test_published_weights_give_the_published_answers(kind: str, tmp_path: Path) -> None:
    model = network(kind).eval()
    weights = make(kind)
    model.load_published(write(tmp_path / "weights.h5", weights))
    image = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(image)[0]
    real = published(kind, weights, image.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], -real, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_squared_error_of_the_score() -> None:
    model = network("meso4", size=32).eval()
    image, label = torch.rand(2, 3, 32, 32), torch.tensor([1, 0])
    with torch.inference_mode():
        real = model(image)[0][:, 0].sigmoid()  # the published output, of which 1 means real
        loss = model.loss(image, label, torch.zeros(2, 1, 32, 32), torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(loss, (real[0] ** 2 + (1 - real[1]) ** 2) / 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.pop("conv2d_8"), r"3 layers conv2d \(conv2d_7, conv2d_9, conv2d_10\) where meso4 has 4"),
        (lambda w: w["dense_7"].pop("bias"), r"lacks 'dense_7\.bias'; .* weights of meso4\.$"),
        (
            lambda w: w.update({"dense_9": w["dense_8"]}),
            r"3 layers dense \(.*dense_9\) where meso4 has 2",
        ),
        (lambda w: w.update({"gru_1": w["dense_8"]}), r"holds 'gru_1\.bias', which the network lacks"),
        (lambda w: w["dense_8"].update(kernel=np.zeros((4, 1))), r"'dense_8\.weight' of shape \(1, 4\)"),
        (lambda w: w["conv2d_7"].update(kernel=np.zeros((3, 3, 1, 8))), r"'conv2d_7\.weight' of shape \(8, 1, 3, 3\)"),
    ],
    ids=[
        "missing layer",
        "missing weight",
        "surplus layer",
        "unknown layer",
        "misshapen dense",
        "misshapen convolution",
    ],
)
def test_wrong_files_are_refused(change: Callable[[Any], object], sentence: str, tmp_path: Path) -> None:
    weights = make("meso4")
    change(weights)
    with pytest.raises(UserError, match=r"weights\.h5 .*" + sentence):
        network("meso4").load_published(write(tmp_path / "weights.h5", weights))


def test_a_file_of_the_other_network_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.h5", make("meso4"))
    with pytest.raises(UserError, match="4 layers conv2d .* where mesoinception4 has 16"):
        network("mesoinception4").load_published(path)


def test_another_size_than_the_published_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.h5", make("meso4"))
    with pytest.raises(UserError, match=r"for 256 pixels, but train_emd\.network\.size is 64; set it to 256"):
        network("meso4", size=64).load_published(path)


def test_what_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(UserError, match=r"weights\.h5 is not an HDF5 file of weights"):
        network("meso4").load_published(str(tmp_path / "weights.h5"))
