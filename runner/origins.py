"""Where the value of each key comes from: read again out of the files, variables and words from
which Hydra composed the configuration, which does not remember it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from runner.config import Config, plain
from runner.folders import RESOURCES

Kind = Literal["default", "file", "environment", "command line", "system_config"]

_VARIABLE = re.compile(r"oc\.env:(\w+)")
_GLOBAL = re.compile(r"^# @package _global_$", re.MULTILINE)
_CONFIG = "config"


@dataclass(frozen=True)
class Origin:
    """``source``: the file, variable or word of the command line."""

    kind: Kind
    source: str = ""


@dataclass(frozen=True)
class Composition:
    """What Hydra was given: ``words`` of the command line, the option of each group, and the
    folders in which options are looked for, the user's own before the program's."""

    words: tuple[str, ...]
    choices: Mapping[str, str]
    folders: tuple[Path, ...]

    @classmethod
    def of_hydra(cls) -> "Composition":
        """The one that runs."""
        hydra = HydraConfig.get()
        found = [Path(source.path) for source in hydra.runtime.config_sources if source.path]
        folders = [path for path in found if path.is_absolute() and path.is_dir()]
        ours = RESOURCES / "conf"
        return cls(
            words=tuple(hydra.overrides.task),
            choices=dict(hydra.runtime.choices),
            folders=(*(path for path in folders if path != ours), ours),
        )


@dataclass(frozen=True)
class _File:
    """An option's file. ``package``: where its keys are; ``given``: why it is this option."""

    path: Path
    package: str
    given: Origin
    content: dict[str, Any]

    @property
    def defaults(self) -> list[dict[str, Any]]:
        """The choices of its defaults list, as they were written."""
        defaults = self.content.get("defaults", [])
        return [default for default in defaults if isinstance(default, dict)]

    def written(self, key: str) -> str | None:
        """What stands there under ``key``, as it was written; None: nothing."""
        inside = f"{self.package}." if self.package else ""
        if not key.startswith(inside):
            return None
        at: Any = self.content
        for part in key.removeprefix(inside).split("."):
            if not isinstance(at, dict) or part not in at:
                return None
            at = at[part]
        return str(at)


def origins(config: Config, composition: Composition) -> dict[str, Origin]:
    """The origin of every key of ``config``."""
    words = dict(_words(composition))
    files = list(_files(composition, words))
    return {key: _origin(key, config, words, files) for key in flat(config)}


def flat(config: Config) -> dict[str, Any]:
    """Every key with its value. A list is one value."""
    return dict(_flat("", plain(config)))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), item)
    else:
        yield prefix, value


def _words(composition: Composition) -> Iterator[tuple[str, str]]:
    """Keys and groups of the command line, with the words that name them."""
    for word in composition.words:
        yield word.partition("=")[0].lstrip("+~"), word


def _origin(key: str, config: Config, words: Mapping[str, str], files: list[_File]) -> Origin:
    for name in words:
        if key == name or key.startswith(f"{name}."):
            return Origin("command line", name)
    for file in files:
        written = file.written(key)
        if written is not None:
            variables = _VARIABLE.findall(written)
            if "from_url:" in written:
                variables.insert(0, config.database.url_env)
            named = [name for name in variables if os.environ.get(name)]
            return Origin("environment", named[0]) if named else file.given
    return Origin("default")


def _files(composition: Composition, words: Mapping[str, str]) -> Iterator[_File]:
    """The files in which a key may stand, those that win first: the configuration itself, then the
    options, of which Hydra lists the last one first."""
    root: _File | None = None
    for folder in composition.folders:
        path = folder / f"{_CONFIG}.yaml"
        if path.is_file():
            root = _file(path, "", _of_file(path))
            yield root
            break
    for group, option in composition.choices.items():
        name, _, package = group.partition("@")
        for folder in composition.folders:
            path = folder / name / f"{option}.yaml"
            if not group.startswith("hydra/") and path.is_file():
                given = _chosen(group, words, root) or _of_file(path)
                yield _file(path, package or name.replace("/", "."), given)
                break


def _file(path: Path, package: str, given: Origin) -> _File:
    text = path.read_text(encoding="utf-8")
    content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    return _File(path, "" if _GLOBAL.search(text) else package, given, content)


def _of_file(path: Path) -> Origin:
    try:
        return Origin("default", f"conf/{path.relative_to(RESOURCES / 'conf').as_posix()}")
    except ValueError:
        return Origin("file", str(path))


def _chosen(group: str, words: Mapping[str, str], root: _File | None) -> Origin | None:
    """Who chose a group's option, if anybody did."""
    if group in words:
        return Origin("command line", words[group])
    for default in root.defaults if root else []:
        variables = _VARIABLE.findall(str(default.get(group, "")))
        named = [name for name in variables if os.environ.get(name)]
        if named:
            return Origin("environment", named[0])
    return None
