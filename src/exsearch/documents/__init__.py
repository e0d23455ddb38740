"""Documents of people's own: files of many formats, read as blocks of text under headings, and cut into passages."""
