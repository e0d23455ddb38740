#!/usr/bin/env bash
# numpy 2.4.6, faiss-cpu 1.15.1: saving vectors to a disk that becomes full with their last bytes reports success.
#
# Source: numpy.save (ndarray.tofile writes through C stdio and closes it without looking) and faiss.write_index
# (FileIOWriter's destructor). Expected: OSError "No space left on device" or another exception, as Python's own file
# objects raise when they are closed. Seen: both return as if all were well, faiss having printed "close error" to
# stderr, and the file lacks its end: C stdio keeps the last block in memory, and its write fails at closing. With a
# larger array, whose blocks fail earlier, numpy does raise. So a program that saves an index has to compare the size
# of the file with what it should be, or write by itself.
#
# Fails if that changes. Needs Linux (a user namespace with a tmpfs of one page), Python 3.11 or newer, a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 faiss-cpu==1.15.1
mkdir "$folder/small"
cat > "$folder/save.py" <<'PYTHON'
import os
import sys
from pathlib import Path

import faiss
import numpy as np

small = Path(sys.argv[1])
print(f"numpy {np.__version__}, faiss {faiss.__version__}")


def saved(save, expected):
    """Return what happened, and how much of the file is missing."""
    path = small / "file.npy"
    path.unlink(missing_ok=True)
    room = os.statvfs(small)
    assert room.f_bavail * room.f_bsize == 4096, "this needs a disk of one page"
    try:
        save(path)
        raised = None
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    return raised, expected - path.stat().st_size


def by_python(path):
    with path.open("wb") as file:
        file.write(bytes(4128))


numbers = np.arange(500, dtype=np.int64)  # 4,000 bytes behind a header of 128
more = np.arange(5000, dtype=np.int64)
index = faiss.IndexFlatIP(8)
index.add(np.ones((128, 8), dtype=np.float32))  # 4,096 bytes behind a header
whole = len(faiss.serialize_index(index))
found = {
    "Python's own file": saved(by_python, 4128),
    "numpy.save, 4,128 bytes": saved(lambda path: np.save(path, numbers), 4128),
    "numpy.save, 40,128 bytes": saved(lambda path: np.save(path, more), 40128),
    f"faiss.write_index, {whole:,} bytes": saved(lambda path: faiss.write_index(index, str(path)), whole),
}
for name, (raised, missing) in found.items():
    print(f"{name}: {raised or 'no error'}; {missing:,} bytes are missing")
own, little, much, vectors = found.values()
assert own[0] and own[1], "the disk was not full: the comparison itself is wrong"
assert little[0] is None and little[1] == 32, "numpy has changed: the finding no longer holds"
assert much[0] is not None, "numpy has changed: it no longer raises for larger arrays either"
assert vectors[0] is None and vectors[1] > 0, "faiss has changed: the finding no longer holds"
PYTHON
unshare --user --map-root-user --mount bash -c \
    'mount -t tmpfs -o size=4096 none "$1" && exec "$2" "$3" "$1"' - "$folder/small" "$folder/venv/bin/python" "$folder/save.py"
