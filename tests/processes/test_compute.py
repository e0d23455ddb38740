"""One thread of a process computes by torch, whoever asks; calls behave there as they would where they were made."""

import asyncio
import contextvars
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
import torch

from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate
from exsearch.processes import compute
from tiny_models import tiny_engine

TESTS = Path(__file__).parents[1]


def elsewhere() -> int:
    """The thread that this runs in."""
    return threading.get_ident()


def test_every_caller_gets_the_same_thread_and_it_is_its_own() -> None:
    async def asked() -> int:
        return await compute.run_async(elsewhere)

    found = {compute.run(elsewhere), asyncio.run(asked()), compute.owned(elsewhere)()}
    other = threading.Thread(target=lambda: found.add(compute.run(elsewhere)))
    other.start()
    other.join()
    [owner] = found
    assert owner != threading.get_ident()


def test_a_call_from_the_thread_itself_is_simply_made() -> None:
    async def both() -> tuple[int, int]:
        return compute.run(elsewhere), await compute.run_async(elsewhere)

    assert len({compute.run(elsewhere), *compute.run(lambda: asyncio.run(both()))}) == 1


def broken() -> None:
    raise ValueError("of the call")


def test_an_exception_comes_back_with_where_it_was_raised() -> None:
    with pytest.raises(ValueError, match="of the call") as caught:
        compute.run(broken)
    assert "raise ValueError" in "".join(traceback.format_exception(caught.value))
    assert compute.run(lambda: 1) == 1, "the thread goes on"


def test_a_call_sees_the_context_variables_of_its_caller() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert compute.run(variable.get) == 7
    compute.run(lambda: variable.set(8))
    assert variable.get() == 7


def test_modes_of_torch_in_one_call_do_not_reach_the_next() -> None:
    compute.run(torch.inference_mode()(elsewhere))
    compute.run(torch.no_grad()(elsewhere))
    assert compute.run(torch.is_grad_enabled)
    assert not compute.run(torch.is_inference_mode_enabled)


def test_a_call_that_nobody_waits_for_ends_when_it_asks() -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless() -> None:
        begun.set()
        try:
            while True:
                compute.check()
        finally:
            ended.set()

    async def give_up() -> None:
        task = asyncio.create_task(compute.run_async(endless))
        await asyncio.to_thread(begun.wait)
        task.cancel()

    asyncio.run(give_up())
    assert ended.wait(30)
    assert compute.run(lambda: 1) == 1


def test_a_call_given_up_before_its_turn_is_left_out() -> None:
    release, made = threading.Event(), []

    async def give_up() -> None:
        first = asyncio.create_task(compute.run_async(release.wait))
        second = asyncio.create_task(compute.run_async(lambda: made.append(1)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        release.set()
        await first

    asyncio.run(give_up())
    compute.run(lambda: None)
    assert made == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_has_a_thread_of_its_own() -> None:
    parent = compute.run(threading.get_native_id)
    child = os.fork()
    if not child:
        os._exit(compute.run(threading.get_native_id) == parent)
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("it waited for a thread that it does not have")
    assert os.waitstatus_to_exitcode(status) == 0


def test_an_engine_answers_where_an_event_loop_runs_already() -> None:
    async def cell() -> list[int]:
        return generate(tiny_engine(), [[1, 2, 3]], Sampling(4, [], temperature=0.0), [0])[0].token_ids

    expected = generate(tiny_engine(), [[1, 2, 3]], Sampling(4, [], temperature=0.0), [0])[0].token_ids
    assert asyncio.run(cell()) == expected


INTERRUPTED = """
import asyncio, signal, sys, threading, time
from exsearch.processes import coroutines

begun, ended = threading.Event(), threading.Event()

async def long():
    begun.set()
    try:
        await asyncio.sleep(600)
    finally:
        ended.set()

def interrupt():
    begun.wait()
    time.sleep(0.1)  # the main thread waits by now
    if "here" in sys.argv:
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

async def cell():
    coroutines.run(long())

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=interrupt).start()
started = time.monotonic()
try:
    if "script" in sys.argv:
        asyncio.run(cell())
    else:
        asyncio.new_event_loop().run_until_complete(cell())  # as a notebook does, whose handler stays
except KeyboardInterrupt:
    print(ended.is_set(), time.monotonic() - started < 5)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
@pytest.mark.parametrize("taken_by", ["here", "main thread"])
@pytest.mark.parametrize("kind", ["notebook", "script"])
def test_an_interrupt_stops_what_a_notebook_or_a_script_waits_for(kind: str, taken_by: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, kind, taken_by]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # a child, which cannot hang for longer
    assert done.stdout == "True True\n", done.stderr


EVERYTHING = """
import sys, threading
from pathlib import Path
import torch
torch.set_num_threads(2)  # with one there are no teams
from exsearch.processes import compute, coroutines
from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.loading import load_agent
from exsearch.config import LearnConfig, ModelConfig, parse_config
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.questions.question import Question
from exsearch.em.explore import explore
from exsearch.retrieval.encoders import runner
from exsearch.retrieval.index.build import build_index
from exsearch.training.example import Example
from exsearch.encoder_training.train import RetrieverConfig, train_retriever
from exsearch.encoder_training.triples import TrainingSet, Triple
from exsearch.training.job import Job
from exsearch.training.start import train
from tiny_models import save_tiny, tiny_llama
from tiny_sentence_models import save_bert, save_cross_encoder, save_sentence_encoder

folder, chat = Path(sys.argv[1]), ChatFormat.load(Path(sys.argv[2]))
runner.best_backend = lambda: "torch-float32"

@compute.owned
def prepare():
    save_tiny(folder / "model", chat)
    tiny_llama(len(chat.tokenizer)).bfloat16().save_pretrained(folder / "model")
    save_bert(folder / "bert"), save_sentence_encoder(folder / "sentences"), save_cross_encoder(folder / "reranker")

prepare()
passages = [Passage(str(n), f"Title {n}", f"Passage {n} tells of a river. " * 30) for n in range(64)]
corpus = write_corpus(folder / "corpus", passages)
members = {"members": ["late", "dense"], "reranker": str(folder / "reranker")}
members["late"] = {"encoder": str(folder / "bert"), "token_bytes": 8}
members["dense"] = {"encoder": str(folder / "sentences")}
index = str(build_index(corpus, "hybrid", folder / "index", **members))
settings = ["agent.turn_tokens=8", "agent.max_steps=2", "explore.samples=2", "rollout.in_flight=4"]
config = parse_config({"data": {"index": index}}, [*settings, "model.precision=fp32", "agent.grammar=search-r1"], "")
questions = [Question(str(n), f"Which river is number {n}?", ["one"]) for n in range(4)]

def run_explore(model, out):
    agent = load_agent(Experiment(config).with_model(model))
    assert explore(agent, questions, config.explore, 0, out)
    agent.retriever.search(["Which river?"], 5)
    agent.close()

run_explore(folder / "model", folder / "first.jsonl")
tokens, mask = [*range(40, 240), *range(80, 190), 2], [0] * 200 + [1] * 111
examples = [Example([5 + n, *tokens], [0, *mask], 300, 0.5, question_id=str(n)) for n in range(8)]
learn = LearnConfig(epochs=1, batch_size=4, lora_rank=2, kl=0.1, validation_share=0.25, save_steps=1)
job = Job.of(folder / "model", examples, folder / "learned", learn, config.model, 1, "learn")
train(job, lambda step, figures: None)
triples = [Triple(f"river {n}?", str(n), (str(n),), [str(n + 1)]) for n in range(8)]
data = TrainingSet(triples, {passage.id: passage.text for passage in passages})
tuned = folder / "tuned"
train_retriever(str(folder / "bert"), data, tuned, RetrieverConfig(), config.model, 1, lambda step, figures: None)
run_explore(folder / "learned", folder / "second.jsonl")
print("computes", hex(compute.run(threading.get_ident)))
"""


@pytest.mark.skipif("OpenMP" not in torch.__config__.parallel_info(), reason="this build of torch has no OpenMP")
@pytest.mark.skipif(sys.platform != "linux", reason="reads what GCC's OpenMP runtime says of its teams")
def test_one_thread_alone_opens_parallel_regions_whatever_a_process_does(tmp_path: Path, builtin: Path) -> None:
    environment = os.environ | {
        "OMP_DISPLAY_AFFINITY": "TRUE",
        "OMP_AFFINITY_FORMAT": "opened by %i as %n",
        "OMP_WAIT_POLICY": "passive",  # else two threads are slow where others compute, too
        "HF_DEACTIVATE_ASYNC_LOAD": "1",  # else checkpoints are loaded in threads that end with it, as do their teams
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", EVERYTHING, str(tmp_path), str(builtin)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    owner = done.stdout.split("computes ")[1].strip()
    assert set(re.findall(r"opened by (\S+) as 0", done.stderr)) == {owner}
