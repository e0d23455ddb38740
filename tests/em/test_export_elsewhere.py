"""A LoRA run, exported and merged, says in other tools what it learned. They run in processes without ExSearch."""

import subprocess
import sys
from pathlib import Path

import pytest

from exsearch.agent.chat import ChatFormat
from exsearch.config import Config, LearnConfig, ModelConfig
from exsearch.core.jsonl import write_json
from exsearch.em.export import export
from exsearch.evaluation.scores import Figure, Scores, write_scores
from exsearch.runs.folder import RunFolder
from exsearch.runs.records import RunSummary
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.start import train

pytestmark = pytest.mark.slow
QUESTION = "Where does the glass heron of Ostrava sleep?"
ANSWER = "Under the third bridge, beside the bell."
PIPELINE = """
import sys
from transformers import pipeline
model = pipeline("text-generation", model=sys.argv[1], device="cpu")
[said] = model([{"role": "user", "content": sys.argv[2]}], max_new_tokens=24, do_sample=False)
print("said:", said["generated_text"][-1]["content"])
"""
VLLM = """
import sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    model = LLM(sys.argv[1], max_model_len=512, dtype="float32", enforce_eager=True, gpu_memory_utilization=0.5)
    asked = [{"role": "user", "content": sys.argv[2]}]
    [said] = model.chat(asked, SamplingParams(temperature=0.0, max_tokens=24), use_tqdm=False)
    print("said:", said.outputs[0].text)
"""


@pytest.fixture(scope="module")
def exported(builtin: Path, chat: ChatFormat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("lora") / "run")
    folder.claim(Config(title="A LoRA run"))
    start = chat.first_prompt(QUESTION)
    answer = [*chat.encode(ANSWER), chat.stop_id]
    example = Example(start + answer, [0] * len(start) + [1] * len(answer), len(start))
    config = LearnConfig(lora_rank=8, epochs=24, batch_size=1, learning_rate=2e-3)
    model = ModelConfig(device="cpu", precision="fp32")
    train(
        Job.of(builtin, [example], folder.checkpoint("iter-1"), config, model, 1, "learn"), lambda step, figures: None
    )
    figure = Figure(1.0, 0.9, 1.0, 1)
    write_scores(folder.test_eval("iter-1"), Scores("iter-1", "feed", {"em": figure, "f1": figure}, {}, {}, []))
    write_json(folder.summary, RunSummary("A LoRA run", ["iter-1"], "iter-1", {}, None, [], {}))
    export(folder.root, folder.root.parent / "model", None, None)
    return folder.root.parent / "model"


@pytest.mark.parametrize(
    "program", [PIPELINE, pytest.param(VLLM, marks=pytest.mark.needs("vllm"))], ids=["transformers", "vllm"]
)
def test_an_exported_lora_run_answers_in(program: str, exported: Path, tmp_path: Path) -> None:
    script = tmp_path / "answer.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, script, exported, QUESTION], capture_output=True, text=True, cwd=tmp_path, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"said: {ANSWER}" in done.stdout.splitlines()
