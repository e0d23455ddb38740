"""The commands of the paper's first code (SearchLM), with its flags and file formats, on this system's parts."""
