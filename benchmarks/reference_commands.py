"""The four commands of the reference's README in a row, on wiki-mini, with two processes, and one of them killed.

    python benchmarks/reference_commands.py --wiki-mini DIR [--work runs/reference]

`sft` on gold trajectories, `inference` and `entropy` on training questions with what came of it, `align` on the
weights, each as the README writes it with all its flags, DeepSpeed's ZeRO-3 among them; the numbers are smaller. Then
`align` once more into another folder, with all its processes killed by SIGKILL after a resume point, and continued by
the same command with `--resume_from_checkpoint`: its losses must be those of the run that was left alone.

Prints what the commands print, writes benchmarks/results/reference_commands.json and draws the two loss curves into
docs/images/resume.svg. Needs `exsearch[deepspeed]`.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from html import escape
from pathlib import Path

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.core.atomic import write_text
from exsearch.core.jsonl import read_jsonl, write_json
from exsearch.engine.models.builtin import resolve_model

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "reference_commands.json"
PICTURE = ROOT / "docs" / "images" / "resume.svg"
MODEL = "builtin:smollm2-135m"
TRAINING = (
    "--deepspeed ./src/script/ds_z3_config.json --overwrite_cache True --warmup_ratio 0.1 --report_to none "
    "--run_name test_run --logging_steps 1 --cutoff_len 8192 --max_samples {samples} --save_steps 2 "
    "--per_device_train_batch_size 1 --gradient_accumulation_steps 4 --learning_rate 1.0e-4 --num_train_epochs 2 "
    "--lr_scheduler_type cosine --bf16 True"
)
SAVED = 2
"""Step of the resume point after which the processes are killed."""


def main() -> None:
    """Run the commands, kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wiki-mini", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/reference"))
    parser.add_argument("--samples", type=int, default=24, help="conversations to learn from")
    parser.add_argument("--questions", type=int, default=40, help="to explore")
    options = parser.parse_args()
    work = options.work.resolve()
    warm_up, index = prepare(options.wiki_mini, work)
    flags = TRAINING.format(samples=options.samples)
    train = f"torchrun --nproc_per_node=2 --master_port=11021 ./src/run.py {flags}"
    warm, log = work / "warm", work / "log"
    commands = [
        run("sft", f"{train} --model_name_or_path {MODEL} --dataset_name_or_path {warm_up} --output_dir {warm}"),
        run(
            "inference",
            f"python ./src/run.py --model_name_or_path {warm} --input_file {options.wiki_mini}/hotpotqa_train.json "
            f"--output_dir {log} --left 0 --right {options.questions} --index {index} --samples 2",
        ),
        run(
            "entropy",
            f"python ./src/run.py --model_name_or_path {warm} --output_dir {log} --epo 1 "
            f"--inference_file {log}/hotpotqa_train.0-{options.questions}.json",
        ),
    ]
    weights = log / f"hotpotqa_train.0-{options.questions}.epo1.json"
    align = f"{train} --model_name_or_path {warm} --dataset_name_or_path {weights} --output_dir"
    commands.append(run("align", f"{align} {work}/aligned"))
    killed = work / "killed"
    kill_behind_a_resume_point(f"{align} {killed}", killed)
    commands.append(run("align", f"{align} {killed} --resume_from_checkpoint {killed}"))
    curves = {"left alone": losses(work / "aligned"), "killed and continued": losses(killed)}
    apart = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
    result = {"commands": commands, "losses": curves, "largest difference": apart}
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    write_text(PICTURE, draw(curves))
    print(f"losses of {len(curves['left alone'])} steps; the largest difference is {apart:.1e}")


def prepare(wiki_mini: Path, work: Path) -> tuple[Path, Path]:
    """Make the index and the warm-up file in the reference's format; return both."""
    index, warm_up = work / "index", work / "warm-up.json"
    exsearch = [sys.executable, "-m", "exsearch.cli.main"]
    steps = {
        work / "corpus": ["corpus", "import", wiki_mini / "psgs_w100.tsv.gz", "--out", work / "corpus"],
        index: ["index", work / "corpus", "--retriever", "bm25", "--out", index],
        work / "questions.jsonl": [
            *("data", "import", wiki_mini / "musique_train.jsonl", "--corpus", work / "corpus"),
            *("--out", work / "questions.jsonl"),
        ],
        work / "gold.jsonl": [
            *("data", "warmup", work / "questions.jsonl", "--index", index, "--gold", "insert"),
            *("--out", work / "gold.jsonl"),
        ],
    }
    for out, words in steps.items():
        if not out.exists():
            subprocess.run([*exsearch, *map(str, words)], check=True)
    chat = ChatFormat.load(resolve_model(MODEL))
    gold = read_jsonl(work / "gold.jsonl", Trajectory)
    write_json(warm_up, [{"messages": chat.messages(trajectory.token_ids)} for trajectory in gold])
    return warm_up, index


def run(procedure: str, command: str) -> dict[str, object]:
    """Run a command of the README to its end; return it with what it printed. Ends the program if it fails."""
    started = time.monotonic()
    with start(procedure, command) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="")
            lines.append(line)
    if process.returncode:
        sys.exit(f"PROCEDURE={procedure} ended with {process.returncode}")
    printed = [line.strip() for line in lines if "checkpoint after" in line or "trajectories" in line or "ZeRO" in line]
    return {"procedure": procedure, "seconds": round(time.monotonic() - started, 1), "said": printed}


def start(procedure: str, command: str) -> "subprocess.Popen[str]":
    """Start a command of the README from the repository root, in a process group of its own."""
    print(f"\n$ PROCEDURE={procedure} {command}", flush=True)
    bin_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        shlex.split(command),
        cwd=ROOT,
        env={**os.environ, "PROCEDURE": procedure, "PATH": bin_first, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_behind_a_resume_point(command: str, output: Path) -> None:
    """Start a training and kill all its processes once a step after a resume point is logged."""
    with start("align", command) as process:
        while len(losses(output)) <= SAVED:
            if process.poll() is not None:
                sys.exit("the training ended before it could be killed")
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        # torchrun gives its workers sessions of their own
        subprocess.run(["pkill", "-9", "-f", str(output)], check=False)
    print(f"killed after step {len(losses(output))}")


def losses(output: Path) -> list[float]:
    """Return the losses that a training has logged."""
    file = output.with_name(f"{output.name}.metrics.jsonl")
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines if line.endswith("}")]


def draw(curves: dict[str, list[float]]) -> str:
    """Return a picture of loss curves laid over each other, the first one broad and pale."""
    width, height, left, bottom = 640, 300, 60, 250
    highest = max(max(values) for values in curves.values()) * 1.05
    steps = max(len(values) for values in curves.values())

    def point(step: int, loss: float) -> tuple[float, float]:
        return left + (width - left - 20) * step / max(steps - 1, 1), bottom - (bottom - 50) * loss / highest

    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fbfaf7"/>',
        f'<path d="M{left} 50V{bottom}H{width - 20}" fill="none" stroke="#6b675e"/>',
        f'<text x="{left}" y="{bottom + 36}" font-size="13">optimiser step, 1 to {steps}</text>',
        f'<text x="10" y="54" font-size="13">{highest:.2f}</text><text x="10" y="{bottom}" font-size="13">0</text>',
    ]
    for number, (name, values) in enumerate(curves.items()):
        colour, stroke = (("#9cc3e0", 9), ("#c0392b", 2))[number]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(step, loss) for step, loss in enumerate(values)))
        svg.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}"/>')
        x = left + 200 * number
        svg.append(f'<line x1="{x}" y1="24" x2="{x + 30}" y2="24" stroke="{colour}" stroke-width="{stroke}"/>')
        svg.append(f'<text x="{x + 38}" y="29" font-size="14">loss, {escape(name)}</text>')
    return "\n".join([*svg, "</svg>", ""])


if __name__ == "__main__":
    main()
