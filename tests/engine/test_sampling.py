"""Drawing tokens: from the right distribution, only by one's own seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exsearch.core.seeds import derive_seed
from exsearch.engine.hf.sampling import draw, uniforms

rows = st.lists(st.floats(-20, 20), min_size=2, max_size=30)
shares = st.floats(0, 1, exclude_max=True)


def draw_one(logits: list[float], uniform: float, temperature: float = 1.0, top_p: float = 1.0) -> int:
    return int(draw(torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64), temperature, top_p))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature: float) -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -30.0])
    count = 20_000
    drawn = draw(logits.expand(count, -1), uniforms([5], count)[0], temperature, 1.0).bincount(minlength=5)
    expected = (logits / temperature).softmax(dim=-1) * count
    chi_square = float(((drawn - expected) ** 2 / expected)[:4].sum())
    assert chi_square < 16.3, "p < 0.001 with 3 degrees of freedom"
    assert drawn[4] == 0


@given(rows, shares, st.floats(0, 1), st.floats(0.05, 5))
def test_a_draw_lies_in_the_smallest_set_of_tokens_that_reaches_top_p(
    logits: list[float], uniform: float, top_p: float, temperature: float
) -> None:
    token = draw_one(logits, uniform, temperature, top_p)
    probabilities = (torch.tensor(logits, dtype=torch.float64) / temperature).softmax(dim=-1)
    likelier = float(probabilities[probabilities > probabilities[token] * (1 + 1e-6)].sum())
    assert likelier < top_p + 1e-6 or likelier == 0


@given(rows, shares)
def test_temperature_zero_takes_the_likeliest(logits: list[float], uniform: float) -> None:
    token = draw_one(logits, uniform, temperature=0.0)
    assert logits[token] == pytest.approx(max(logits), abs=1e-5)


@given(st.lists(rows, min_size=2, max_size=5), shares, shares)
def test_a_row_is_drawn_as_if_it_were_alone(found: list[list[float]], first: float, other: float) -> None:
    width = min(map(len, found))
    logits = [row[:width] for row in found]
    noise = torch.tensor([first] + [other] * (len(logits) - 1), dtype=torch.float64)
    assert int(draw(torch.tensor(logits), noise, 1.0, 0.9)[0]) == draw_one(logits[0], first, 1.0, 0.9)


@given(rows, st.sampled_from([0.0, 1 - 2**-50]))
def test_the_ends_of_the_unit_interval_draw_a_possible_token(logits: list[float], uniform: float) -> None:
    padded = [-torch.inf, *logits, -torch.inf]
    assert 0 < draw_one(padded, uniform) < len(padded) - 1


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.integers(1, 20))
def test_noise_depends_on_its_own_seed_alone(seeds: list[int], count: int) -> None:
    noise = uniforms(seeds, count)
    assert noise.shape == (len(seeds), count)
    assert bool(((noise >= 0) & (noise < 1)).all())
    for row, seed in zip(noise, seeds, strict=True):
        assert torch.equal(row, uniforms([seed], count)[0])
        assert torch.equal(row, uniforms([seed], count + 7)[0][:count]), "a longer turn starts the same"


@given(st.lists(st.text(alphabet="ab1", max_size=3), min_size=1, max_size=3))
def test_a_seed_depends_on_every_part_and_on_where_each_ends(parts: list[str]) -> None:
    seed = derive_seed(*parts)
    assert seed == derive_seed(*parts)
    assert 0 <= seed < 2**64
    assert seed != derive_seed(*parts, "")
    assert seed != derive_seed(*parts[:-1], parts[-1] + "x")


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert derive_seed(7, "q-1", 3) == 1493587351196017080
