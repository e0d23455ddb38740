"""Training a retriever: the right pairs, the loss as defined, and the same weights however often it is killed."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.trajectory import Step, StopReason, Trajectory
from exsearch.cli import main as command
from exsearch.config import ModelConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.encoder_training.train import RetrieverConfig, contrastive_loss, max_similarity, train_retriever
from exsearch.encoder_training.triples import (
    TrainingPair,
    TrainingSet,
    Triple,
    add_negatives,
    pairs_of_questions,
    pairs_of_trajectories,
    sample_pairs,
)
from exsearch.questions.question import Question, SubQuestion
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from tiny_encoders import save_colbert, save_plain

needs_sentence_transformers = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)

CPU = ModelConfig(device="cpu", precision="fp32")
SUBJECTS = ["shark", "river", "glacier", "bridge", "novel", "senator"]
PLACES = ["ohio", "norway"]
PASSAGES = [
    Passage(f"{subject}-{place}", f"The {subject} of {place}", f"A {subject} lives in {place} {number}.")
    for number, subject in enumerate(SUBJECTS)
    for place in PLACES
]
QUESTIONS = [
    Question(
        f"q-{passage.id}",
        f"Which {passage.id.replace('-', ' in ')}?",
        ["x"],
        gold_passages=[passage.id],
    )
    for passage in PASSAGES
]
CONFIG = RetrieverConfig(scope="full", epochs=3, batch_size=4, learning_rate=1e-3, save_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a bm25 index, questions and a random encoder."""
    folder = tmp_path_factory.mktemp("retriever")
    build_index(write_corpus(folder / "corpus", PASSAGES), "bm25", folder / "bm25")
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    save_plain(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> TrainingSet:
    return add_negatives(pairs_of_questions(QUESTIONS), open_index(folder / "bm25"), Corpus.open(folder / "corpus"))


class TestTriples:
    def test_sub_questions_come_before_the_question(self) -> None:
        sub = SubQuestion("where is it?", ["y"], passage="a")
        with_subs = Question("q", "text", ["x"], gold_passages=["a", "b"], sub_questions=[sub, SubQuestion("?", ["z"])])
        without = Question("r", "other", ["x"], gold_passages=["c", "d"])
        assert pairs_of_questions([with_subs, without, Question("s", "none", ["x"])]) == [
            TrainingPair("where is it?", "a", ("a", "b")),
            TrainingPair("other", "c", ("c", "d")),
            TrainingPair("other", "d", ("c", "d")),
        ]

    def test_a_trajectorys_gold_passage_belongs_to_the_query_that_found_it_first(self) -> None:
        def step(query: str, *ids: str) -> Step:
            return Step(query, [Hit(Passage(id, "", ""), 1.0, rank) for rank, id in enumerate(ids, 1)], "")

        def trajectory(question: str, reason: StopReason, *steps: Step) -> Trajectory:
            return Trajectory(question, 0, list(steps), "x", reason, [], [], [], None, 0, "", "")

        questions = [Question("q", "text", ["x"], gold_passages=["a", "b"])]
        good = trajectory("q", StopReason.ANSWERED, step("one", "z", "a"), step("two", "a", "b"))
        cut_off = trajectory("q", StopReason.MAX_STEPS, step("three", "a"))
        foreign = trajectory("elsewhere", StopReason.ANSWERED, step("four", "a"))
        found = [TrainingPair("one", "a", ("a", "b")), TrainingPair("two", "b", ("a", "b"))]
        assert pairs_of_trajectories([good, cut_off, foreign, good], questions) == found

    def test_negatives_are_hits_that_are_neither_gold_nor_of_the_same_title(self, folder: Path) -> None:
        twin = Passage("twin", PASSAGES[0].title, "A shark swims.")
        corpus = write_corpus(folder / "twins", [*PASSAGES, twin])
        retriever = open_index(build_index(corpus, "bm25", folder / "twins-bm25"))
        pairs = [
            TrainingPair("shark of ohio", PASSAGES[0].id, (PASSAGES[0].id, "river-ohio")),
            TrainingPair("gone", "gone", ("gone",)),
        ]
        [triple] = add_negatives(pairs, retriever, corpus).triples
        assert triple.negatives[0] == "shark-norway"
        assert not {"twin", PASSAGES[0].id, "river-ohio"} & set(triple.negatives)

    def test_texts_are_those_that_an_index_holds(self, data: TrainingSet) -> None:
        assert data.texts["shark-ohio"] == "The shark of ohio\nA shark lives in ohio 0."
        named = {id for triple in data.triples for id in (triple.passage, *triple.negatives)}
        assert named == set(data.texts)

    def test_pairs_of_another_corpus_are_refused(self, folder: Path) -> None:
        with pytest.raises(UsageError, match="none of 1 pairs"):
            add_negatives(
                [TrainingPair("x", "gone", ("gone",))], open_index(folder / "bm25"), Corpus.open(folder / "corpus")
            )

    def test_a_sample_depends_on_the_seed_alone(self) -> None:
        pairs = pairs_of_questions(QUESTIONS)
        assert sample_pairs(pairs, 5, 1) == sample_pairs(pairs, 5, 1) != sample_pairs(pairs, 5, 2)
        assert sample_pairs(pairs, None, 1) == sample_pairs(pairs, 99, 1) == pairs


class TestLoss:
    @given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
    def test_max_similarity_is_the_sum_of_each_tokens_best_match(self, queries: int, passages: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        q, p = (torch.randn(count, 5, 3, generator=draw) for count in (queries, passages))
        q, p = torch.nn.functional.normalize(q, dim=-1), torch.nn.functional.normalize(p, dim=-1)
        q_counts, p_counts = (torch.rand(count, 5, generator=draw) < 0.7 for count in (queries, passages))
        scores = max_similarity(q, q_counts, p, p_counts)
        for row in range(queries):
            for column in range(passages):
                products = q[row][q_counts[row]] @ p[column][p_counts[column]].T
                best = products.amax(dim=1) if products.shape[1] else -torch.ones(len(products))
                assert scores[row, column].item() == pytest.approx(best.sum().item(), abs=1e-5)

    def test_another_gold_passage_in_the_batch_is_no_negative(self, folder: Path, data: TrainingSet) -> None:
        checkpoint, cpu = load_checkpoint(str(folder / "encoder")), torch.device("cpu")

        def loss(*triples: Triple) -> float:
            batch = [(triple, None) for triple in triples]
            return contrastive_loss(checkpoint, batch, data.texts, cpu, torch.float32)[0].item()

        both = ("shark-ohio", "river-norway")
        hops = [Triple("which shark", both[0], both, []), Triple("which river", both[1], both, [])]
        assert loss(*hops) == 0.0  # nothing is left to be better than
        unrelated = [Triple(triple.query, triple.passage, (triple.passage,), []) for triple in hops]
        assert loss(*unrelated) > 0.0


class KilledError(Exception):
    """Stands for the end of the process."""


def train(
    folder: Path,
    data: TrainingSet,
    out: Path,
    config: RetrieverConfig = CONFIG,
    last: int = 0,
    encoder: str = "encoder",
) -> dict[int, dict[str, float]]:
    figures: dict[int, dict[str, float]] = {}

    def log(step: int, values: dict[str, float]) -> None:
        if step == last:
            raise KilledError
        figures[step] = values

    train_retriever(str(folder / encoder), data, out, config, CPU, 7, log)
    return figures


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


class TestTraining:
    @pytest.fixture(scope="class")
    def whole(self, folder: Path, data: TrainingSet) -> Path:
        train(folder, data, folder / "whole")
        return folder / "whole"

    def test_the_right_passages_come_to_score_higher(self, folder: Path, data: TrainingSet, tmp_path: Path) -> None:
        steps = train(
            folder, data, tmp_path / "out", RetrieverConfig(scope="full", epochs=30, batch_size=12, learning_rate=3e-3)
        )
        assert np.mean([steps[step]["loss"] for step in (28, 29, 30)]) < steps[1]["loss"] - 0.3
        before, after = (TokenEncoder(str(path), "torch-float32") for path in (folder / "encoder", tmp_path / "out"))
        assert right(after) > right(before) + 0.1
        assert after.info.hash != before.info.hash

    @pytest.mark.parametrize("killed_at", [2, 4, 9])
    def test_a_killed_training_continues_to_the_same_weights(
        self, folder: Path, data: TrainingSet, whole: Path, tmp_path: Path, killed_at: int
    ) -> None:
        out = tmp_path / "out"
        with pytest.raises(KilledError):
            train(folder, data, out, last=killed_at)
        assert not out.exists()
        assert min(train(folder, data, out)) == (killed_at - 1) // 2 * 2 + 1
        assert content(out) == content(whole)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_finished_encoder_is_kept_and_one_of_other_inputs_refused(
        self, folder: Path, data: TrainingSet, whole: Path
    ) -> None:
        assert train(folder, data, whole) == {}
        with pytest.raises(UsageError, match="choose another folder"):
            train(folder, data, whole, RetrieverConfig(scope="full", epochs=2))
        with pytest.raises(UsageError, match="choose another folder"):
            train(folder, data, folder / "corpus")

    @needs_sentence_transformers
    def test_a_projection_leaves_the_transformer_as_it_is(
        self, folder: Path, data: TrainingSet, tmp_path: Path
    ) -> None:
        from safetensors.torch import load_file
        from sentence_transformers import MultiVectorEncoder

        train(folder, data, tmp_path / "out", RetrieverConfig(scope="projection", dimensions=8, epochs=3, batch_size=4))
        before, after = (load_file(path / "model.safetensors") for path in (folder / "encoder", tmp_path / "out"))
        assert all(torch.equal(before[name], after[name]) for name in before)
        encoder = TokenEncoder(str(tmp_path / "out"), "torch-float32")
        texts = ["Which shark lives in Ohio?", "river!"]
        assert [vectors.shape for vectors in encoder.encode_queries(texts)] == [(5, 8), (1, 8)]
        theirs = MultiVectorEncoder(str(tmp_path / "out"), device="cpu").encode_document(texts, convert_to_numpy=True)
        for ours, other in zip(encoder.encode_passages(texts), theirs, strict=True):
            assert ours == pytest.approx(other, abs=1e-5)

    @needs_sentence_transformers
    def test_a_projection_begins_as_the_principal_axes(self, folder: Path, data: TrainingSet, tmp_path: Path) -> None:
        config = RetrieverConfig(scope="projection", epochs=1, batch_size=12, learning_rate=1e-12)
        train(folder, data, tmp_path / "out", config)
        before, after = (TokenEncoder(str(path), "torch-float32") for path in (folder / "encoder", tmp_path / "out"))
        a, b = (np.concatenate(encoder.encode_passages(list(data.texts.values()))) for encoder in (before, after))
        assert a @ a.T == pytest.approx(b @ b.T, abs=1e-4)  # all axes: a rotation

    @needs_sentence_transformers
    def test_a_colbert_stays_one(self, folder: Path, data: TrainingSet, tmp_path: Path) -> None:
        save_colbert(folder / "colbert")
        for scope, dimensions in (("full", 16), ("projection", 4)):
            config = RetrieverConfig(scope, None if scope == "full" else dimensions, epochs=1, batch_size=6)  # type: ignore[arg-type]
            train(folder, data, tmp_path / scope, config, encoder="colbert")
            encoder = TokenEncoder(str(tmp_path / scope), "torch-float32")
            assert [vectors.shape for vectors in encoder.encode_queries(["shark"])] == [(12, dimensions)]
            assert len(encoder.encode_passages(["shark " * 50])[0]) == 20

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (RetrieverConfig(scope="projection", dimensions=33), "must be 1 to 32"),
            (RetrieverConfig(scope="full", dimensions=8), "dimensions apply only to a projection: set scope"),
        ],
    )
    def test_dimensions_that_do_not_fit_are_refused(
        self, folder: Path, data: TrainingSet, tmp_path: Path, config: RetrieverConfig, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            train(folder, data, tmp_path / "out", config)
        assert list(tmp_path.iterdir()) == []


def right(encoder: TokenEncoder) -> float:
    """The share of the questions whose passage scores highest."""
    queries = encoder.encode_queries([question.text for question in QUESTIONS])
    passages = encoder.encode_passages([f"{passage.title}\n{passage.text}" for passage in PASSAGES])
    scores = np.array([[(query @ passage.T).max(axis=1).sum() for passage in passages] for query in queries])
    return float((scores.argmax(axis=1) == np.arange(len(PASSAGES))).mean())


class TestCommand:
    @staticmethod
    def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
        monkeypatch.setattr(sys, "argv", ["exsearch", "retriever", "train", *map(str, arguments)])
        try:
            command.main()
        except SystemExit as end:
            return end.code
        return 0

    def test_it_writes_an_encoder_that_an_index_takes(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "trained"
        files = ("--questions", folder / "questions.jsonl", "--index", folder / "bm25", "--out", out)
        options = ("--encoder", folder / "encoder", "--max-triples", 6, "--batch-size", 3, "--json")
        assert self.run(monkeypatch, *files, *options) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["encoder"], result["triples"]) == (str(out), 6)
        steps = [json.loads(line)["step"] for line in Path(result["metrics"]).read_text().splitlines()]
        assert steps == [1, 2]
        assert TokenEncoder(str(out), "torch-float32").encode_queries(["shark"])[0].shape == (1, 32)

    @pytest.mark.parametrize(
        ("questions", "encoder", "message"),
        [
            ([Question("q", "Who?", ["x"])], "encoder", "no question names a gold passage"),
            ([Question("q", "Who?", ["x"], gold_passages=["gone"])], "encoder", "none of 1 pairs"),
            (QUESTIONS, "no-such-encoder", "cannot be loaded"),
        ],
    )
    def test_a_mistake_is_one_line(
        self,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        questions: list[Question],
        encoder: str,
        message: str,
    ) -> None:
        write_jsonl(tmp_path / "q.jsonl", questions)
        out = tmp_path / "out"
        options = ("--index", folder / "bm25", "--out", out, "--encoder", folder / encoder)
        assert self.run(monkeypatch, "--questions", tmp_path / "q.jsonl", *options) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
