"""Reads e-mail: one message per file."""

import email
import email.policy
from email.message import EmailMessage, MIMEPart

from exsearch.documents.document import Block, Document
from exsearch.documents.html import read_html
from exsearch.documents.text import read_prose


def read_mail(content: bytes, name: str) -> Document:
    """Return a message: who wrote it to whom and when, and its text; attachments are not read."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    headers = [f"{key}: {message[key]}" for key in ("From", "To", "Date") if message[key]]
    blocks = [Block("\n".join(headers), is_lines=True)] if headers else []
    body = message.get_body(("plain", "html"))
    if body is not None:
        text = _text_of(body).encode(errors="replace")
        blocks += (read_html if body.get_content_subtype() == "html" else read_prose)(text, name).blocks
    return Document(str(message["Subject"] or ""), [Block(each.text, is_lines=each.is_lines) for each in blocks])


def _text_of(body: MIMEPart) -> str:
    """Return the text of a part, also where it names an encoding that does not exist."""
    content = body.get_payload(decode=True)
    assert isinstance(content, bytes)
    try:
        return content.decode(body.get_content_charset("utf-8"), errors="replace")
    except LookupError:
        return content.decode("utf-8", errors="replace")
