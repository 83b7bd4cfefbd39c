"""The files that say how the project is run, locked and licensed agree with each other."""

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONF = sorted((ROOT / "conf").rglob("*.yaml"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
MAX_LINES = 120
MAX_BYTES = 1_000_000

DEPENDENCIES = PYPROJECT["project"]["dependencies"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
GROUPS = PYPROJECT["dependency-groups"]
LOCKED = {
    "run": DEPENDENCIES + EXTRAS["embedded"],
    "dev": DEPENDENCIES + EXTRAS["embedded"] + GROUPS["dev"],
    "models": DEPENDENCIES + EXTRAS["embedded"] + EXTRAS["models"],
    "node": GROUPS["node"],
    "build": GROUPS["build"],
}
TORCH = re.compile(r"torch|nvidia|triton|cuda|sentence-transformers")

# In halves, so that this file does not hold what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "registry.npm" + "js.org",
    "proxy.golang" + ".org",
    "crates" + ".io",
    "deb.debian" + ".org",
]


@cache
def project_files() -> list[Path]:
    """Every file that is not ignored by git, relative to the root."""
    ignored = GitIgnoreSpec.from_lines([".git/", *(ROOT / ".gitignore").read_text().splitlines()])
    files = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not ignored.match_file(f"{here / name}/")]
        files += [here / name for name in names if not ignored.match_file(here / name)]
    return files


def explained_targets() -> list[str]:
    return re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE)


def named_targets(text: str) -> set[str]:
    """Of ``make x`` as a command: in backticks or at the start of a line."""
    return set(re.findall(r"(?:^ *|`)make ([a-z]+)", text, re.MULTILINE))


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("path", [*MANUAL, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_make_target_that_is_named_has_a_line_in_make_help(path: Path) -> None:
    assert named_targets(path.read_text()) <= set(explained_targets())


def test_make_alone_lists_the_targets() -> None:
    first, *_ = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)
    assert first == "help"


def test_the_readme_opens_with_the_two_commands() -> None:
    commands = re.search(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert commands
    assert re.findall(r"^make \w+", commands[1], re.MULTILINE) == ["make run", "make test"]


def test_ci_checks_and_then_tests() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make check", "make test"]


def test_the_readme_says_what_it_does_and_shows_a_call_before_the_commands() -> None:
    title, promise, *_ = [line for line in README.splitlines() if line]
    assert title.startswith("# ")
    assert promise[0].isalpha()
    assert 0 < README.index("docs/images/call.png") < README.index("make run")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_the_readme_lists_every_option_of_every_group() -> None:
    for group in (folder for folder in (ROOT / "conf").iterdir() if folder.is_dir()):
        row = re.search(rf"^\| `{group.name}` .*", README, re.MULTILINE)
        assert row, group.name
        assert {path.stem for path in group.glob("*.yaml")} <= set(re.findall(r"`(\w+)`", row[0]))


@pytest.mark.parametrize("path", MANUAL, ids=lambda path: path.name)
def test_every_link_between_files_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/speech.md", "conf/stt_tts/embedded.yaml"])
def test_the_licence_of_piper_is_stated_where_speech_is_chosen(name: str) -> None:
    assert re.search(r"Piper.*GPL-3\.0", (ROOT / name).read_text())


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_a_hash(path: Path) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]
    assert blocks
    assert [block for block in blocks if "==" not in block or "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("lock", LOCKED)
def test_the_locks_are_those_of_pyproject(lock: str) -> None:
    wanted = [Requirement(line) for line in LOCKED[lock]]
    locked = pins(lock)
    unfit = [str(r) for r in wanted if not r.specifier.contains(locked.get(r.name, "0"))]
    assert unfit == [], "run `make lock`"


def test_the_lock_holds_nothing_that_nobody_asks_for() -> None:
    for lock, requirements in LOCKED.items():
        text = (ROOT / f"requirements/{lock}.txt").read_text()
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        asked = {block.split("==")[0] for block in blocks if "voice-agent-runner (pypro" in block}
        wanted = {canonicalize_name(Requirement(line).name) for line in requirements}
        own = {canonicalize_name(PYPROJECT["project"]["name"])}
        assert asked - wanted - own == set(), f"{lock}: run `make lock`"


def test_what_is_tested_is_what_is_run() -> None:
    run, dev = pins("run"), pins("dev")
    assert {name: dev.get(name) for name in run} == run


@pytest.mark.parametrize("lock", ["run", "dev"])
def test_neither_a_call_nor_a_test_needs_pytorch(lock: str) -> None:
    assert [name for name in pins(lock) if TORCH.match(name)] == []


def test_every_library_that_is_imported_is_declared() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in LOCKED["models"]}
    owners = packages_distributions()
    undeclared = set()
    for name in imported_libraries():
        if not declared & {canonicalize_name(owner) for owner in owners.get(name, [name])}:
            undeclared.add(name)
    assert undeclared == set()


def imported_libraries() -> set[str]:
    """Top-level names that the package imports and Python does not bring."""
    modules = set()
    for path in (ROOT / "runner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    return {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"runner"}


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_file_names_a_package_registry(host: str) -> None:
    assert [path for path in project_files() if host.encode() in (ROOT / path).read_bytes()] == []


def test_no_file_is_large() -> None:
    large = [path for path in project_files() if (ROOT / path).stat().st_size > MAX_BYTES]
    assert large == []


@pytest.mark.parametrize("path", CONF, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_key_of_the_configuration_has_a_comment(path: Path) -> None:
    assert list(uncommented_keys(path.read_text())) == []


def uncommented_keys(text: str) -> Iterator[str]:
    """Keys with a value and a comment neither on their line, nor above it, nor at a parent."""
    parents: list[tuple[int, bool]] = []
    above = ""
    for line in text.splitlines():
        key = re.match(r"( *)([a-z_]+):(.*)", line)
        if key:
            indent, commented = len(key[1]), " #" in key[3] or above.startswith("#")
            parents = [parent for parent in parents if parent[0] < indent]
            if key[3].split(" #")[0].strip() and not any([commented, *(p[1] for p in parents)]):
                yield line
            parents.append((indent, commented))
        above = line.strip()


def test_env_example_lists_every_variable_that_the_configuration_reads() -> None:
    conf = "\n".join(path.read_text() for path in CONF)
    read = set(re.findall(r"oc\.env:([A-Z_]+)", conf))
    named = set(re.findall(r"_env: ([A-Z_]+)", conf))
    assert set(re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE)) == read | named


def test_env_example_shows_the_defaults() -> None:
    conf = "\n".join(path.read_text() for path in CONF)
    for name, default in re.findall(r'oc\.env:([A-Z_]+),"?([^}"]*)"?}', conf):
        assert re.search(rf"^#?{name}={re.escape(default)}$", ENV_EXAMPLE, re.MULTILINE), name
