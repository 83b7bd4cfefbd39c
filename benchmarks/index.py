"""1,000 small files of every format: chunks a second, memory, the second start, and 20 kills.

``.venv/bin/python benchmarks/index.py`` starts a database and a model server of its own. It writes
the files, indexes them with ``task=index`` (memory of the process and of its parser every 10 %),
indexes again, then begins anew and kills the indexer with SIGKILL at 20 random moments, and
compares the rows with those of the run that nobody disturbed.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import psycopg
from docx import Document
from fpdf import FPDF
from hydra import compose, initialize_config_dir
from openpyxl import Workbook
from pptx import Presentation

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner import config
from runner.dbserver import EMBEDDED_PORT, EMBEDDED_USER
from runner.folders import RESOURCES
from runner.progress import Progress
from runner.stack import Need, stack

FILES = 1_000
KILLS = 20
PORT = 28011
_MB = 2**20
_ROWS = """SELECT filename, chunk_index, md5(content), file_hash, metadata::text
           FROM rag_documents ORDER BY 1, 2"""


def sentences(chance: random.Random, chars: int) -> list[str]:
    """Text that no other file holds, so that no cache serves it."""
    made: list[str] = []
    while sum(map(len, made)) < chars:
        words = (f"{chance.choice(WORDS)}" for _ in range(chance.randint(6, 14)))
        made.append(f"{' '.join(words)} {chance.randint(1000, 999_999)}.".capitalize())
    return made


WORDS = re.findall(
    r"\w+",
    """pump boiler valve pressure litre winter summer handbook engineer room water pipe repair price
    order delivery invoice customer contract warranty filter motor voltage cable switch door key
    window roof garden office meeting report schedule holiday number address street city station
    train ticket market bread coffee sugar salt recipe kitchen oven table chair lamp paper""",
)


def docx(path: Path, lines: list[str]) -> None:
    """A heading and paragraphs."""
    document = Document()
    document.add_heading(lines[0])
    for line in lines[1:]:
        document.add_paragraph(line)
    document.save(str(path))


def pptx(path: Path, lines: list[str]) -> None:
    """Slides of a title and five lines."""
    slides = Presentation()
    for start in range(0, len(lines), 6):
        slide = slides.slides.add_slide(slides.slide_layouts[1])
        slide.shapes.title.text = lines[start]
        slide.placeholders[1].text = "\n".join(lines[start + 1 : start + 6])
    slides.save(str(path))


def xlsx(path: Path, lines: list[str]) -> None:
    """A sheet of four columns."""
    book = Workbook()
    for line in lines:
        book.active.append(line.split(" ", 3))
    book.save(path)


def pdf(path: Path, lines: list[str]) -> None:
    """A page of text and a ruled table."""
    document = FPDF()
    document.add_page()
    document.set_font("helvetica", size=11)
    document.multi_cell(0, text="\n".join(lines[:-4]))
    with document.table() as table:
        for line in lines[-4:]:
            row = table.row()
            for cell in line.split(" ", 2):
                row.cell(cell)
    document.output(str(path))


def html(path: Path, lines: list[str]) -> None:
    """A title and paragraphs."""
    body = "".join(f"<p>{line}</p>" for line in lines[1:])
    path.write_text(f"<title>{lines[0]}</title><h1>{lines[0]}</h1>{body}")


def json_(path: Path, lines: list[str]) -> None:
    """A list of strings."""
    path.write_text(json.dumps({"lines": lines}, indent=1))


def csv(path: Path, lines: list[str]) -> None:
    """A word a cell."""
    path.write_text("\n".join(line.replace(" ", ",") for line in lines))


def text(path: Path, lines: list[str]) -> None:
    """A heading in Markdown, and lines."""
    path.write_text(f"# {lines[0]}\n\n" + "\n".join(lines[1:]))


FORMATS: dict[str, Callable[[Path, list[str]], None]] = {
    **dict.fromkeys(("md", "txt", "py", "log"), text),
    "json": json_,
    "csv": csv,
    "pdf": pdf,
    "docx": docx,
    "pptx": pptx,
    "html": html,
    "xlsx": xlsx,
}


def write(folder: Path, number: int) -> None:
    """One file; every format comes equally often."""
    chance = random.Random(number)
    suffix = list(FORMATS)[number % len(FORMATS)]
    path = folder / f"{number % 20:02}" / f"file{number:04}.{suffix}"
    path.parent.mkdir(exist_ok=True)
    FORMATS[suffix](path, sentences(chance, chance.randint(800, 3_000)))


def start(command: list[str]) -> subprocess.Popen[str]:
    """The indexer; its lines come on stderr, its summary on stdout."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def progress(process: subprocess.Popen[str]) -> Iterator[int]:
    """How many files are done, as it says so."""
    assert process.stderr
    done = 0
    for line in process.stderr:
        if not re.search(r"chunks?$|ready|starting", line):
            print(f"  {line.strip()}")
        if re.search(r"\d chunks?$", line):
            done += 1
            yield done


def memory(process: subprocess.Popen[str]) -> str:
    """RSS of the indexer and of what it started: its parser, a guard."""
    indexer = psutil.Process(process.pid)
    sizes = [one.memory_info().rss // _MB for one in (indexer, *indexer.children(recursive=True))]
    return " + ".join(map(str, sizes))


def processor_s() -> float:
    """What all processes of this benchmark have computed, servers and the dead included."""
    family = psutil.Process().children(recursive=True)
    return sum(sum(one.cpu_times()[:4]) for one in family if one.is_running())


def undisturbed(command: list[str]) -> None:
    """A whole run, with its memory and its computing."""
    before = processor_s()
    used = 0.0
    process = start(command)
    for done in progress(process):
        if done % (FILES // 10) == 0:
            used = processor_s() - before
            print(f"  {done:5} files: {memory(process)} MB, {used:.0f} s of processor time")
    print(" ", process.communicate()[0].strip().splitlines()[0])


def again(command: list[str]) -> None:
    """The second start."""
    began = time.monotonic()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(f"  {out.strip()} ({time.monotonic() - began:.1f} s with the start of Python)")


def killed(command: list[str]) -> None:
    """Starts it and kills it at a random moment, 20 times."""
    chance = random.Random(1)
    for _ in range(KILLS):
        process = start(command)
        last = chance.randint(1, FILES // KILLS)
        for done in progress(process):
            if done >= last:
                time.sleep(chance.random() * 0.3)
                break
        process.kill()
        process.communicate()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(f"  after {KILLS} kills: {out.strip()}")


def rows(socket: str, name: str) -> list[tuple[object, ...]]:
    """What the index holds, less what differs from run to run."""
    with database(socket, name) as connection:
        return connection.execute(_ROWS).fetchall()


def database(socket: str, name: str) -> psycopg.Connection:
    """Past everything, in autocommit."""
    return psycopg.connect(
        host=socket, port=EMBEDDED_PORT, user=EMBEDDED_USER, dbname=name, autocommit=True
    )


async def main() -> None:
    """All of it."""
    async with AsyncExitStack() as exits:
        root = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp")))
        root.chmod(0o755)  # noqa: ASYNC240  (Postgres runs as another account)
        files = root / "docs"
        files.mkdir()
        for number in range(FILES):
            write(files, number)
        overrides = [
            f"deployment.data_dir={root / 'data'}",
            f"models.port={PORT}",
            f"rag.docs_dir={files}",
            "task=index",
        ]
        with initialize_config_dir(str(RESOURCES / "conf"), version_base="1.3"):
            settings = config.load(compose("config", overrides))
        services = frozenset({Need.POSTGRES, Need.MODELS})
        running = await exits.enter_async_context(stack(settings, services, Progress()))
        socket = running.endpoints.postgres_socket
        assert socket
        command = [sys.executable, "-m", "runner", *overrides]
        print(f"{FILES} files, undisturbed:")
        await asyncio.to_thread(undisturbed, command)
        expected = rows(socket, settings.database.name)
        print("again:")
        await asyncio.to_thread(again, command)
        with database(socket, settings.database.name) as connection:
            connection.execute("TRUNCATE rag_documents")
        print("killed:")
        await asyncio.to_thread(killed, command)
        same = rows(socket, settings.database.name) == expected
        print(f"  {len(expected)} rows, {'the same' if same else 'OTHERS'} as undisturbed")


if __name__ == "__main__":
    asyncio.run(main())
