"""Stats-2L: statistics by hand; the size of the published network."""

import torch

from emd_core.models.baselines.rahmouni import Rahmouni, RahmouniConfig, statistics


def test_statistics_by_hand() -> None:
    """Variances: (4 + 1 + 0 + 9) / 4 around the mean 3, (1 + 1 + 1 + 9) / 4 around 1."""
    maps = torch.tensor([[[[1.0, 2], [3, 6]], [[0, 0], [0, 4]]]])
    assert statistics(maps).tolist() == [[3, 1, 6, 3.5, 1, 0, 4, 3]]


def test_the_published_network_has_its_size() -> None:
    model = Rahmouni(RahmouniConfig(kind="rahmouni", crop=299, size=128, hidden=1024))
    convolutions = 32 * (9 + 1) + 64 * (32 * 9 + 1)
    connected = 1024 * (4 * 64 + 1) + 2 * 1025
    assert sum(p.numel() for p in model.parameters()) == convolutions + connected == 284_034


def test_it_looks_at_the_green_channel_and_takes_statistics_in_float32() -> None:
    model = Rahmouni(RahmouniConfig(kind="rahmouni", crop=48, size=32, hidden=8)).eval()
    image = torch.rand(2, 3, 48, 48)
    red, green = image.clone(), image.clone()
    red[:, 0], green[:, 1] = 0, 0
    logits, mask = model(image)
    assert mask is None
    assert torch.equal(model(red)[0], logits) and not torch.equal(model(green)[0], logits)
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.maps(image[:, 1:2])
        assert maps.dtype == torch.bfloat16 and statistics(maps.float()).dtype == torch.float32
        torch.testing.assert_close(model(image)[0].float(), logits, atol=0.05, rtol=0.05)
