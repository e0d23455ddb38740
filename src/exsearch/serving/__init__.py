"""Retrieval for other programs: one HTTP server for every client's wire format, and MCP."""
