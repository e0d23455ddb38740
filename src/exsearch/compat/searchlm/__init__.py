"""The commands of the paper's first code (SearchLM), with its flags and file formats, run by this project's parts."""
