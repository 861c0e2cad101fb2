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
    kinds = list(zip(table["answer"], table["status"], strict=True))
    ranked = table.assign(
        place=[ORDER.index(Answer(answer)) + (status == "unreadable") / 2 for answer, status in kinds]
    )
    ranked = ranked.sort_values(["place", "score", "path"], ascending=[True, False, True], kind="stable")
    shown = ranked.head(ROWS).astype(object).where(ranked.head(ROWS).notna(), None)
    reports = [f"./{quote(f'{name}/report.html')}" for name in shown["folder"]]
    judged = table[table["status"] == "judged"]
    counts = {str(answer): int((judged["answer"] == answer).sum()) for answer in ORDER}
    page = render(
        "verdicts",
        rows=list(zip(shown.to_dict("records"), reports, strict=True)),
        counts=counts,
        unreadable=len(table) - len(judged),
        total=len(table),
        models=sorted({f"{name} ({code})" for name, code in zip(table["model"], table["model_digest"], strict=True)}),
    )
    with atomic_file(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
