"""How many videos may be unusable before a stage stops."""

from collections.abc import Mapping

from emd_core.errors import UserError


def limit_bad_videos(stage: str, bad: Mapping[str, str], n_videos: int, max_bad_share: float) -> None:
    """Stop a stage whose share of unusable videos is above its limit.

    Args:
        stage: its name, which is also its section in params.yaml.
        bad: video key -> reason.
        n_videos: number of videos that the stage looked at.
        max_bad_share: the limit, in [0, 1].
    """
    if len(bad) <= max_bad_share * n_videos:
        return
    first = "; ".join(f"{video}: {reason}" for video, reason in list(bad.items())[:3])
    raise UserError(
        f"{len(bad)} of {n_videos} videos ({len(bad) / n_videos:.1%}) are unusable, but {stage}.max_bad_share allows "
        f"{max_bad_share:.1%} ({first}{'; …' if len(bad) > 3 else ''}); mend or remove them, or raise the limit."
    )
