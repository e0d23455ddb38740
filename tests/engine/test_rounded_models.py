"""What rounding could hide is looked for in float32: a wrong path is not taken for the bits that are missing."""

import pytest
import torch

from exsearch.engine.hf import paths
from exsearch.engine.hf.paths import judge_engine
from exsearch.engine.models.probe import in_float32, plain_logprobs, probe_tokens
from model_families import FAMILIES


@pytest.mark.parametrize(
    ("name", "path"), [("mamba", "tokens"), ("nemotron_h", "whole"), ("zamba2", "whole"), ("llama3", "slots")]
)
def test_a_model_in_bfloat16_takes_the_path_that_is_right_in_float32(name: str, path: str) -> None:
    exact, rounded = FAMILIES[name].model(), FAMILIES[name].model().bfloat16()
    assert judge_engine(exact).path == path
    verdict = judge_engine(rounded)
    assert verdict.path == path
    assert verdict.rejected.keys() == judge_engine(exact).rejected.keys(), "the report says why"
    assert all(parameter.dtype == torch.bfloat16 for parameter in rounded.parameters())


def test_a_model_is_what_it_was_after_it_was_computed_in_float32() -> None:
    model = FAMILIES["qwen3"].model().bfloat16()  # its head is its embeddings
    kept = model.model.rotary_emb.inv_freq.float()
    model.model.rotary_emb.inv_freq = kept
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with in_float32(model):
        assert model.dtype == torch.float32
        exact = plain_logprobs(model, probe_tokens(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(before[name].dtype == tensor.dtype for name, tensor in model.state_dict().items())
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32, "what was exact is exact"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    wider = FAMILIES["qwen3"].model()
    wider.load_state_dict(before)
    wider.model.rotary_emb.inv_freq = kept
    assert torch.equal(plain_logprobs(wider, probe_tokens(wider)), exact)


def test_without_room_for_float32_a_model_is_judged_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exsearch.engine.models.probe._LARGE", 0)
    model = FAMILIES["llama3"].model().bfloat16()
    with pytest.raises(MemoryError), in_float32(model):
        pass
    assert model.dtype == torch.bfloat16
    assert judge_engine(model).path == "slots"


def test_a_path_that_fails_in_its_own_precision_alone_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = paths.memory_of

    def failing(model, path, seats):  # type: ignore[no-untyped-def]
        if path == "slots" and model.dtype == torch.bfloat16:
            raise RuntimeError("no kernel for bfloat16")
        return real(model, path, seats)

    monkeypatch.setattr(paths, "memory_of", failing)
    verdict = judge_engine(FAMILIES["llama3"].model().bfloat16())
    assert verdict.path == "pieces"
    assert "no kernel" in verdict.rejected["slots"]
