"""README and docs: every command line parses, every link and path leads somewhere; README stays short."""

import functools
import re
import shlex
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from components import STAGES
from components import __main__ as components
from pipelines import __main__ as pipelines
from tests.house.contract import FLOORS, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README_LINES = 150
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CODE = ("components/", "emd_core/", "pipelines/", "params/", "tests/", "benchmarks/", "docs/")
PLACE_HOLDER = ("<", "…")  # `python -m components <stage>`
EXAMPLE = "count_faces"  # the stage that docs/architecture.md shows how to add

FENCED = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def faults(text: str, page: Path) -> list[str]:
    """One sentence per place of `text`, a page's Markdown, that leads nowhere."""
    prose = FENCED.sub("", text)
    snippets = [code for language, code in FENCED.findall(text) if not language] + INLINE.findall(prose)
    lines = [line for snippet in snippets for line in re.sub(r"\\\n\s*", "", snippet).splitlines()]
    found = [fault for line in lines for fault in _command(line)]
    found += [f"no file {path}" for path in INLINE.findall(prose) if _is_path(path) and not (ROOT / path).exists()]
    return found + [fault for link in LINK.findall(prose) for fault in _link(link, page)]


def _command(line: str) -> Iterator[str]:
    for target in set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", line)) - TARGETS:
        yield f"Makefile has no target {target}"
    for module, rest in re.findall(r"\s-m ([\w.]+)([^#;&|]*)", line):
        words = shlex.split(rest)
        if module in ("components", "pipelines"):
            yield from _verb(module, words)
        elif module.split(".")[0] in ("benchmarks", "components", "tests"):
            yield from [] if (ROOT / f"{module.replace('.', '/')}.py").is_file() else [f"no module {module}"]
    for path in re.findall(r"(?:-S|--set) ([\w.]+)=", line):
        *parents, key = path.split(".")
        if key not in functools.reduce(lambda values, parent: values.get(parent, {}), parents, PARAMS):
            yield f"params.yaml has no {path}"


def _verb(module: str, words: list[str]) -> Iterator[str]:
    if not words or words[0].startswith(("--help", *PLACE_HOLDER)):
        return
    verb, *arguments = words
    if verb not in VERBS[module]:
        yield f"{module} has no verb {verb}"
        return
    flags = {word.split("=")[0] for word in arguments if word.startswith("--")}
    for flag in sorted(flags - _options(module, verb)):
        yield f"{module} {verb} has no option {flag}"


def _pipelines_command(verb: str) -> Callable[..., None]:
    name = verb.replace("-", "_")
    run: Callable[..., None] = getattr(import_module(f"pipelines.{name}"), name)
    return run


VERBS: dict[str, dict[str, Callable[[str], Callable[..., None]]]] = {  # verb -> what gives typer its function
    "components": dict.fromkeys(STAGES, components.command) | dict.fromkeys(components.COMMANDS, components.load_stage),
    "pipelines": {name.replace("_", "-"): _pipelines_command for name in pipelines.COMMANDS},
}


@functools.cache
def _options(module: str, verb: str) -> set[str]:
    app = typer.Typer(add_completion=False)
    app.command(verb)(VERBS[module][verb](verb))
    parameters = typer.main.get_command(app).params
    return {"--help"} | {option for p in parameters for option in (*p.opts, *p.secondary_opts)}


def _is_path(code: str) -> bool:
    return code.startswith(CODE) and not set(code) & set("<…*{ ") and EXAMPLE not in code


def _link(link: str, page: Path) -> Iterator[str]:
    if link.startswith(("https://", "http://")):
        return
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        yield f"no file {path}"
    elif anchor and anchor not in {_slug(heading) for heading in HEADING.findall(target.read_text())}:
        yield f"{target.name} has no heading #{anchor}"


def _slug(heading: str) -> str:
    """As GitHub names a heading in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_and_link_leads_somewhere(page: Path) -> None:
    assert faults(page.read_text(), page) == []


def test_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= set(LINK.findall(text))


def test_the_architecture_names_every_room_and_stage() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = {door.parent.name for floor in FLOORS for door in (ROOT / floor).glob("*/__init__.py")}
    assert rooms <= set(INLINE.findall(text))
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\|$", text, re.MULTILINE)
    assert rows == list(STAGES), "the table in docs/architecture.md must have components.STAGES, in their order"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`make demos`", "Makefile has no target demos"),
        ("```\nmake setup && make tabels  # all\n```", "Makefile has no target tabels"),
        ("`python -m components crop_face --help`", "components has no verb crop_face"),
        ("```\npython -m pipelines run_local\n```", "pipelines has no verb run_local"),
        ("```\npython -m components gate --evaluation e --decisions d\n```", "gate has no option --decisions"),
        ("```\npython -m components promote --model m \\\n  --fases f\n```", "promote has no option --fases"),
        ("`python -m components lineage --fast models:/emd-detector@champion`", "lineage has no option --fast"),
        ("`python -m pipelines compile --pools gpu=a100 --no-cache`", "compile has no option --pools"),
        ("`torchrun --standalone -m components train_emd --model=m --crops=c`", "train_emd has no option --crops"),
        ("`python -m benchmarks.speed`", "no module benchmarks.speed"),
        ("`dvc exp run -S train_emd.epoch=12`", "params.yaml has no train_emd.epoch"),
        ("`dvc exp run -S gate.floors.Face2Face.c32.miou=0.9`", "no gate.floors.Face2Face.c32.miou"),
        ("`emd_core/manifest.py`", "no file emd_core/manifest.py"),
        ("[runs](experiment.md)", "no file experiment.md"),
        ("![curves](images/none.png)", "no file images/none.png"),
        ("[data](data.md#a-reel-data-set)", "data.md has no heading #a-reel-data-set"),
    ],
)
def test_what_leads_nowhere_is_named(text: str, fault: str) -> None:
    assert fault in "\n".join(faults(text, ROOT / "docs/page.md"))
