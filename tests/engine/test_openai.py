"""An OpenAI-compatible endpoint as an engine: exact where the server tells token ids, and saying so where not."""

from typing import Any

import pytest

from engine_specs import endpoint_spec
from exsearch.agent.chat import ChatFormat
from exsearch.core.errors import UsageError
from exsearch.core.retry import RetryPolicy
from exsearch.engine.base import EngineError, Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.openai.engine import OpenAIEngine
from openai_server import Endpoint, running
from tiny_models import tiny_llama


@pytest.fixture(scope="module")
def engine(chat: ChatFormat) -> HFEngine:
    return HFEngine(tiny_llama(len(chat.tokenizer), spread=0.3), "tiny", seats=4)


def connect(url: str, chat: ChatFormat, api: str = "completions", retokenise: bool = False) -> OpenAIEngine:
    return OpenAIEngine(endpoint_spec(url, "tiny", api=api, retokenise=retokenise), chat)


def opening(chat: ChatFormat, text: str) -> list[int]:
    return chat.first_prompt(text)


def test_a_server_that_tells_token_ids_gives_what_the_engine_itself_gives(engine: HFEngine, chat: ChatFormat) -> None:
    prompts = [opening(chat, text) for text in ("one", "two and more", "three")]
    sampling = Sampling(6, [chat.stop_id], temperature=0.0)
    endpoint = Endpoint(engine, chat)
    with running(endpoint) as url:
        remote = connect(url, chat)
        assert remote.scores
        found = generate(remote, prompts, sampling, [1, 2, 3])
        targets = [chat.encode(" yes"), chat.encode(" no, never"), chat.encode("?")]
        scored = logprobs(remote, prompts, targets)
    expected = generate(engine, prompts, sampling, [1, 2, 3])
    assert [(c.token_ids, c.finish) for c in found] == [(c.token_ids, c.finish) for c in expected]
    assert [c.logprobs for c in found] == [pytest.approx(c.logprobs, abs=1e-4) for c in expected]
    assert all(c.exact and c.cached == 3 for c in found)
    for mine, its in zip(scored, logprobs(engine, prompts, targets), strict=True):
        assert mine == pytest.approx(its, abs=1e-4)
    told = [body["stop_token_ids"] for body in endpoint.asked if "stop_token_ids" in body]
    assert told[1:] == [[chat.stop_id]] * 3, "after what was asked to see what the server tells"


@pytest.mark.parametrize("retokenise", [False, True])
def test_text_without_token_ids_is_exact_only_if_asked_for_and_it_comes_back(
    engine: HFEngine, chat: ChatFormat, retokenise: bool
) -> None:
    endpoint = Endpoint(engine, chat, ids=False, scores=False)
    endpoint._generate = lambda prompt, body: generate(  # type: ignore[method-assign]
        engine, [prompt], Sampling(1, list(range(len(chat.tokenizer)))), [0]
    )[0]
    endpoint.chat = type("Said", (), {"decode": staticmethod(lambda ids: " Paris is it")})()  # type: ignore[assignment]
    with running(endpoint) as url:
        remote = connect(url, chat, retokenise=retokenise)
        assert not remote.scores
        [said] = generate(remote, [opening(chat, "x")], Sampling(8, [chat.stop_id]), [0])
    assert said.token_ids == [*chat.encode(" Paris is it"), chat.stop_id]
    assert said.finish == "stop"
    assert said.exact == retokenise


def test_a_chat_endpoint_gets_the_conversation_back_from_its_tokens(engine: HFEngine, chat: ChatFormat) -> None:
    ids = opening(chat, "first <|im_end|> question")
    ids += chat.turn_ids("an answer") + chat.next_prompt("more")
    endpoint = Endpoint(engine, chat)
    with running(endpoint) as url:
        remote = connect(url, chat, api="chat")
        [said] = generate(remote, [ids], Sampling(4, [chat.stop_id], 0.0), [0])
    assert not said.exact and not remote.scores
    assert endpoint.asked[-1]["messages"] == [
        {"role": "user", "content": "first <|im_end|> question"},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": "more"},
    ]


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(engine: HFEngine, chat: ChatFormat) -> None:
    endpoint = Endpoint(engine, chat)
    with running(endpoint) as url:
        remote = connect(url, chat)
        endpoint.fails = [503, 429]
        assert generate(remote, [opening(chat, "x")], Sampling(2, [], 0.0), [0])[0].finish == "length"
        endpoint.fails = [400]
        before = len(endpoint.asked)
        with pytest.raises(EngineError, match="HTTP 400"):
            generate(remote, [opening(chat, "x")], Sampling(2, [], 0.0), [0])
        assert len(endpoint.asked) == before + 1


def test_sglang_scores_prompts_and_says_no_token_ids(engine: HFEngine, chat: ChatFormat) -> None:
    endpoint = Endpoint(engine, chat, sglang=True)
    prompts, targets = [opening(chat, "one"), opening(chat, "two")], [chat.encode(" yes"), chat.encode(" no, never")]
    with running(endpoint) as url:
        remote = connect(url, chat)
        assert remote.scores
        scored = logprobs(remote, prompts, targets)
        [said] = generate(remote, prompts[:1], Sampling(4, [chat.stop_id]), [0])
    for mine, its in zip(scored, logprobs(engine, prompts, targets), strict=True):
        assert mine == pytest.approx(its, abs=1e-4)
    assert not said.exact


def test_what_was_tokenised_again_has_the_log_probs_of_the_model(engine: HFEngine, chat: ChatFormat) -> None:
    endpoint = Endpoint(engine, chat, sglang=True)
    endpoint._generate = lambda prompt, body: generate(  # type: ignore[method-assign]
        engine, [prompt], Sampling(1, list(range(len(chat.tokenizer)))), [0]
    )[0]
    endpoint.chat = type("Said", (), {"decode": staticmethod(lambda ids: " Paris is it")})()  # type: ignore[assignment]
    prompt = opening(chat, "x")
    with running(endpoint) as url:
        [said] = generate(connect(url, chat, retokenise=True), [prompt], Sampling(8, [chat.stop_id], 2.0), [0])
    assert said.exact
    [expected] = logprobs(engine, [prompt], [[*chat.encode(" Paris is it"), chat.stop_id]])
    assert said.logprobs == pytest.approx(expected, abs=1e-4)


def failing(endpoint: Endpoint, status: int, answer: object, echoes: bool = False) -> None:
    """Let an endpoint answer so to everything, or only to what is to be scored."""
    before = endpoint.answer

    def reply(path: str, body: dict[str, object]) -> tuple[int, object]:
        if body.get("echo") or not echoes:
            endpoint.asked.append(body)
            return status, answer
        return before(path, body)

    endpoint.answer = reply  # type: ignore[method-assign]


REFUSED: list[tuple[int, object, str]] = [
    (401, {"error": {"message": "Incorrect key", "code": "invalid"}}, r"HTTP 401: Incorrect key$"),
    (404, {"object": "error", "message": "no model tiny", "code": 404}, r"HTTP 404: no model tiny$"),
    (422, {"detail": [{"loc": ["prompt"]}]}, r'HTTP 422: \[{"loc": \["prompt"\]}\]$'),
    (200, {"error": {"message": "No credits left", "code": 402}}, r"an error 402: No credits left$"),
    (200, {"error": "unknown model"}, r"an error: unknown model$"),
    (200, ["x"], "the answer is not a JSON object$"),
]


@pytest.mark.parametrize(("status", "answer", "message"), REFUSED)
def test_a_server_that_refuses_everything_is_not_one_that_merely_cannot_score(
    engine: HFEngine, chat: ChatFormat, status: int, answer: object, message: str
) -> None:
    endpoint = Endpoint(engine, chat)
    failing(endpoint, status, answer)
    with running(endpoint) as url, pytest.raises(UsageError, match=message):
        connect(url, chat)
    assert len(endpoint.asked) <= 2


@pytest.mark.parametrize(("status", "answer"), [(503, {"detail": "loading"}), (200, {"error": {"code": 429}})])
def test_a_server_that_is_busy_is_not_one_that_cannot_score(
    engine: HFEngine, chat: ChatFormat, status: int, answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exsearch.engine.openai.endpoint.RETRY", RetryPolicy(1, 0.01))
    endpoint = Endpoint(engine, chat)
    failing(endpoint, status, answer)
    with running(endpoint) as url, pytest.raises(EngineError, match=r"loading|an error 429"):
        connect(url, chat)
    assert len(endpoint.asked) == 4  # twice what is to be scored, twice a plain request


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, {"detail": "no echo"}),
        (400, {"error": "echo with log-probs is not supported"}),
        (200, {"error": {"message": "no echo", "code": 400}}),
    ],
)
def test_a_server_that_refuses_to_score_alone_still_answers(
    engine: HFEngine, chat: ChatFormat, status: int, answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exsearch.engine.openai.endpoint.RETRY", RetryPolicy(0, 0.01))
    endpoint = Endpoint(engine, chat)
    failing(endpoint, status, answer, echoes=True)
    with running(endpoint) as url:
        remote = connect(url, chat)
        assert not remote.scores
        assert generate(remote, [opening(chat, "x")], Sampling(2, [], 0.0), [0])[0].exact


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"error": {"message": "cut off by the provider", "code": 502}, "finish_reason": "error"},
            "cut off by the prov",
        ),
        ({"text": "half of", "finish_reason": "error"}, "aborted its answer: no reason given"),
    ],
)
def test_an_answer_that_a_gateway_broke_off_is_no_answer(
    engine: HFEngine, chat: ChatFormat, choice: dict[str, Any], message: str
) -> None:
    endpoint = Endpoint(engine, chat)
    with running(endpoint) as url:
        remote = connect(url, chat)
        failing(endpoint, 200, {"choices": [choice]})
        with pytest.raises(EngineError, match=message):
            generate(remote, [opening(chat, "x")], Sampling(2, [], 0.0), [0])


def test_an_error_with_status_200_is_tried_again_where_that_may_help(engine: HFEngine, chat: ChatFormat) -> None:
    endpoint = Endpoint(engine, chat)
    with running(endpoint) as url:
        remote = connect(url, chat)
        before = endpoint.answer
        busy = [{"error": {"message": "upstream is down", "code": 502}}]
        endpoint.answer = lambda path, body: (200, busy.pop()) if busy else before(path, body)  # type: ignore[method-assign]
        assert generate(remote, [opening(chat, "x")], Sampling(2, [], 0.0), [0])[0].finish == "length"


def test_a_server_that_is_not_there_is_a_usage_error(chat: ChatFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exsearch.engine.openai.endpoint.RETRY", RetryPolicy(0, 0.01))
    with pytest.raises(UsageError, match="cannot be reached"):
        connect("http://127.0.0.1:9/v1", chat)
