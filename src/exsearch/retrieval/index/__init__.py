"""Index folders: what one holds, which kinds there are, building, extending and opening one."""
