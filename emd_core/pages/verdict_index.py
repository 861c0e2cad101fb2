"""index.html: the verdicts on many files, the most serious first."""

from pathlib import Path
from urllib.parse import quote

import pandas as pd

from emd_core.pages.render import render
from emd_core.storage.atomic import atomic_file
from emd_core.verdicts.verdict import Answer

ORDER = (Answer.MANIPULATED, Answer.UNKNOWN, Answer.NOTHING)
ROWS = 2_000  # on the page; a browser takes seconds for many more


def write_index(folder: Path, table: pd.DataFrame) -> None:
    """Write the page beside the table's files; `table` as verdicts.table makes it."""
    order = {str(answer): place for place, answer in enumerate(ORDER)}
    ranked = table.assign(place=table["answer"].map(order) + 0.5 * (table["status"] == "unreadable"))
    ranked = ranked.sort_values(["place", "score", "path"], ascending=[True, False, True], kind="stable")
    shown = ranked.head(ROWS).astype(object).where(ranked.head(ROWS).notna(), None)
    reports = [f"./{quote(f'{name}/report.html')}" for name in shown["folder"]]
    judged = table[table["status"] == "judged"]
    counts = {str(answer): int((judged["answer"] == answer).sum()) for answer in ORDER}
    page = render(
        "verdict_index",
        rows=list(zip(shown.to_dict("records"), reports, strict=True)),
        counts=counts,
        unreadable=len(table) - len(judged),
        total=len(table),
        models=sorted(set(table["model"] + " (" + table["model_digest"] + ")")),
    )
    with atomic_file(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
