"""Documents of every format, friendly and hostile, made where a test needs them."""

import zipfile
from pathlib import Path

from docx import Document
from fpdf import FPDF
from openpyxl import Workbook
from PIL import Image, ImageDraw, ImageFont
from pptx import Presentation

_DIN_A4 = (1654, 2339)  # pixels at 200 dpi


def docx(path: Path, *paragraphs: str) -> None:
    document = Document()
    document.core_properties.title = "The boiler"
    document.core_properties.author = "Ann Author; Bob Builder"
    document.add_heading("Upkeep", level=1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ("part", "price", "valve | brass", "7 EUR"), strict=True):
        cell.text = text
    document.save(str(path))


def pptx(path: Path, *titles: str) -> None:
    slides = Presentation()
    for title in titles:
        slide = slides.slides.add_slide(slides.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = f"About {title}."
    slides.save(str(path))


def xlsx(path: Path, **sheets: list[list[object]]) -> None:
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)


def pdf(path: Path, *pages: str, password: str = "") -> None:
    """Each page has a heading, a paragraph, and a ruled table."""
    document = FPDF()
    document.set_title("The pump")
    document.set_author("Ann Author")
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    for number, text in enumerate(pages, start=1):
        document.add_page()
        document.set_font("helvetica", size=20)
        document.cell(text=f"Section {number}", new_x="LMARGIN", new_y="NEXT")
        document.set_font("helvetica", size=12)
        document.multi_cell(0, text=text, new_x="LMARGIN", new_y="NEXT")
        with document.table() as table:
            for cells in (("part", "price"), ("valve", f"{number} EUR")):
                row = table.row()
                for cell in cells:
                    row.cell(cell)
    document.output(str(path))


def scan(path: Path, *lines: str) -> None:
    """A PDF that holds nothing but a picture of a page."""
    page = Image.new("RGB", _DIN_A4, "white")
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((150, 200 + 90 * number), line, fill="black", font=ImageFont.load_default(40))
    page.save(path, resolution=200)


def zip_bomb(path: Path, inside: str, megabytes: int) -> None:
    """An office file one part of which unpacks to so much."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(inside, "w") as part,
    ):
        for _ in range(megabytes):
            part.write(b"A" * 2**20)


def xml_bomb(path: Path) -> None:
    """A Word document whose properties unfold to a billion laughs, and whose text reads a file."""
    plain = path.with_suffix(".plain")
    docx(plain, "laughter")
    entities = "".join(f'<!ENTITY a{at} "{f"&a{at - 1};" * 10}">' for at in range(1, 10))
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><x>&a9;</x>'.encode()
            if name == "word/document.xml":
                head, _, body = content.partition(b"?>")
                foreign = b'<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]>'
                content = head + b"?>" + foreign + body.replace(b"laughter", b"laughter &file;")
            target.writestr(name, content)
    plain.unlink()


def one_far_cell(path: Path) -> None:
    """Five kilobytes that Docling takes 10 GB and two minutes for."""
    book = Workbook()
    book.active["A1"] = "near"
    book.active["XFD1048576"] = "far"
    book.save(path)


def deep_html(path: Path, depth: int) -> None:
    path.write_text("<div>" * depth + "down there" + "</div>" * depth)
