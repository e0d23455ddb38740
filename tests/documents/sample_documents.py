"""Small documents of each format, with the same content as far as the format can say it."""

import io
import zipfile
from email.message import EmailMessage

FIRST = "The lighthouse of Marlow was built in 1871. Ada Quill paid for it."
SECOND = "Its lamp burns colza oil."

HTML = f"""<!DOCTYPE html><html><head><title>Marlow</title><style>p {{}}</style></head><body>
<nav><ul><li>Home</li></ul></nav><h1 id="top">Marlow</h1><p>{FIRST}</p>
<section id="lamp"><h2>The lamp<a class="headerlink" href="#lamp">¶</a></h2><p>Its <b>lamp</b> burns
colza oil.</p><table><tr><th>year</th><th>oil</th></tr><tr><td>1871</td><td>12</td></tr></table>
<pre>light()
  dark()</pre></section><footer>2026</footer></body></html>"""

MARKDOWN = f"""---
author: somebody
---
# Marlow

{FIRST}

## The lamp

Its **lamp** burns
colza oil.

| year | oil |
|---|---|
| 1871 | 12 |

```
light()
  dark()
```
"""

RST = f"""Marlow
======

{FIRST}

The lamp
--------

Its lamp burns
colza oil.
"""

CODE = '''"""Lights the lamp."""

def light():
    return 1
'''

MAN = f""".TH MARLOW 1
.SH NAME
marlow \\- a lighthouse
.SH DESCRIPTION
{FIRST}
.PP
{SECOND}
"""

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def zipped(members: dict[str, str]) -> bytes:
    """Return a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def docx() -> bytes:
    """Return a Word file with a heading of each level, and a table."""
    parts = [("Heading1", "Marlow"), ("", FIRST), ("Heading2", "The lamp"), ("", SECOND)]
    paragraphs = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>' for style, text in parts
    )
    cells = "".join(f"<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>" for text in ("1871", "12"))
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/></w:style>' for n in (1, 2)
    )
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    return zipped(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
            "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="r1" Type="{_R}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/styles.xml": f'<w:styles xmlns:w="{_W}">{styles}</w:styles>',
            "word/_rels/document.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
            f'relationships"><Relationship Id="s" Type="{_R}/styles" Target="styles.xml"/></Relationships>',
            "word/document.xml": f'<w:document xmlns:w="{_W}"><w:body>{paragraphs}<w:tbl><w:tr>{cells}</w:tr></w:tbl>'
            "</w:body></w:document>",
        }
    )


def odt() -> bytes:
    """Return an OpenDocument text."""
    office, text = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("office", "text"))
    return zipped(
        {
            "content.xml": f'<office:document-content xmlns:office="{office}" xmlns:text="{text}"><office:body>'
            f'<office:text><text:h text:outline-level="1">Marlow</text:h><text:p>{FIRST}</text:p>'
            '<text:h text:outline-level="2">The lamp</text:h><text:p>Its<text:s/>lamp burns '
            "<text:span>colza</text:span> oil.</text:p></office:text></office:body></office:document-content>"
        }
    )


def epub() -> bytes:
    """Return a book whose spine has its two chapters in another order than its manifest."""
    chapter = "<html xmlns='http://www.w3.org/1999/xhtml'><body><h1 id='c'>{}</h1><p>{}</p></body></html>"
    return zipped(
        {
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
            "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Marlow, a book</dc:title></metadata><manifest>'
            '<item id="b" href="two%20b.xhtml"/><item id="a" href="one.xhtml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "OPS/one.xhtml": chapter.format("Marlow", FIRST),
            "OPS/two b.xhtml": chapter.format("The lamp", SECOND),
        }
    )


def pdf(pages: list[list[str]]) -> bytes:
    """Return a PDF file with lines of text per page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for lines in pages:
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        stream = f"BT /F 12 Tf 14 TL 50 700 Td {shown} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F 3 0 R >> >> "
            f"/Contents {len(objects)} 0 R >>"
        )
    kids = " ".join(f"{number} 0 R" for number in range(5, len(objects) + 1, 2))
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"
    content, offsets = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(content)}\n%%EOF\n"
    return f"{content}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


def eml() -> bytes:
    """Return a message in HTML, with a subject that is encoded."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Märlow", "ada@example.org", "bo@example.org"
    message.set_content(f"<p>{FIRST}</p><p>{SECOND}</p>", subtype="html")
    return bytes(message)
