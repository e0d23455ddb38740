"""Retrieval for other programs: an HTTP server for the wire formats of many clients, and MCP."""
