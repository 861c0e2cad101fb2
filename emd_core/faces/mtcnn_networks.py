"""The three networks of MTCNN [Zhang et al., 2016], and their published weights, which facenet-pytorch brings.

Layers are named as in that package's weight files. N pictures of squares, hw windows of a picture; pictures are RGB,
scaled from [0, 255] to about [-1, 1].
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from emd_core.errors import UserError
from emd_core.storage.atomic import atomic_file
from emd_core.storage.weights import load_exactly, read_state_dict

PACKAGE = "facenet-pytorch"


class PNet(nn.Module):
    """Proposes: looks at every window of 12 px of a whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, picture_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Shift of the windows' corners in sides of the window, N4hw; probability of a face, Nhw."""
        map_NChw = pool(self.prelu1(self.conv1(picture_N3HW)), 2)
        map_NChw = self.prelu3(self.conv3(self.prelu2(self.conv2(map_NChw))))
        return self.conv4_2(map_NChw), self.conv4_1(map_NChw).softmax(dim=1)[:, 1]


class RNet(nn.Module):
    """Refines: sees each candidate at 24 px."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(64 * 3 * 3, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, picture_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Shift of the corners in sides of the square, N4; probability of a face, N."""
        map_NChw = pool(self.prelu1(self.conv1(picture_N3HW)), 3)
        map_NChw = pool(self.prelu2(self.conv2(map_NChw)), 3)
        map_NChw = self.prelu3(self.conv3(map_NChw))
        feat_NC = self.prelu4(self.dense4(by_columns(map_NChw)))
        return self.dense5_2(feat_NC), self.dense5_1(feat_NC).softmax(dim=1)[:, 1]


class ONet(nn.Module):
    """Decides: sees each candidate at 48 px, and marks five points of the face."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(128 * 3 * 3, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, picture_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As RNet, and x, y of the points in sides of the square from its corner, N52: left eye, right eye, nose,
        left and right corner of the mouth, as seen in the picture."""
        feat_NC = self.prelu5(self.features(picture_N3HW))
        point_N52 = self.dense6_3(feat_NC).unflatten(1, (2, 5)).mT
        return self.dense6_2(feat_NC), self.dense6_1(feat_NC).softmax(dim=1)[:, 1], point_N52

    def features(self, picture_N3HW: Tensor) -> Tensor:
        """What all answers are made from, N 256."""
        map_NChw = pool(self.prelu1(self.conv1(picture_N3HW)), 3)
        map_NChw = pool(self.prelu2(self.conv2(map_NChw)), 3)
        map_NChw = pool(self.prelu3(self.conv3(map_NChw)), 2)
        map_NChw = self.prelu4(self.conv4(map_NChw))
        features_NC: Tensor = self.dense5(by_columns(map_NChw))
        return features_NC


class MtcnnNetworks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()


def pool(map_NChw: Tensor, size: int) -> Tensor:
    """The largest of each `size` x `size` places, 2 apart; the last ones may stick out."""
    return F.max_pool2d(map_NChw, size, stride=2, ceil_mode=True)


def by_columns(map_NChw: Tensor) -> Tensor:
    """All values of a map in one row, column after column, as in MATLAB, where these weights come from."""
    return map_NChw.permute(0, 3, 2, 1).flatten(1)


def load_mtcnn(weights: Path | None) -> MtcnnNetworks:
    """With the weights of a file that `save_mtcnn` wrote; None: with those of the installed facenet-pytorch."""
    networks = MtcnnNetworks()
    state = published_weights() if weights is None else read_state_dict(weights)
    load_exactly(networks, state, str(weights or PACKAGE))
    return networks.eval()


def save_mtcnn(path: Path) -> None:
    """Write the published weights as one safetensors file, which says whose they are."""
    with atomic_file(path) as temporary:
        save_file(published_weights(), temporary, {"origin": f"{PACKAGE} {version(PACKAGE)}, MIT licence"})


def published_weights() -> dict[str, Tensor]:
    """All three networks' weights, from the data files of facenet-pytorch, which is looked for but not imported."""
    package = find_spec("facenet_pytorch")
    if package is None or package.origin is None:
        raise UserError(
            f"MTCNN's weights are in the package {PACKAGE}, which is not installed; install it with `make setup`, "
            "or name a file of these weights."
        )
    folder = Path(package.origin).with_name("data")
    return {
        f"{network}.{name}": tensor.contiguous()
        for network in ("pnet", "rnet", "onet")
        for name, tensor in read_state_dict(folder / f"{network}.pt").items()
    }
