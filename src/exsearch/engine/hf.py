"""The default engine: any transformers causal language model, on CPU or GPU.

It remembers the keys and values of the sequences that it saw last. A prompt that continues one of them (a
trajectory's next turn) is computed from where that sequence ended, and prompts that are equal (the K samples of a
question) are computed once.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from exsearch.engine.base import Completion, EngineStats, Sampling, TokenIds
from exsearch.engine.sampling import draw, uniforms
from exsearch.engine.slots import SlotCache

PREFILL_TOKENS = 4096
"""Most tokens of one prefill pass; bounds the memory of activations."""


@dataclass
class _Request:
    """One prompt on its way through `generate` or `logprobs`."""

    ids: TokenIds
    slot: int = -1
    cached: int = 0
    twin: "_Request | None" = None
    """The equal prompt whose computation this one copies."""
    output: TokenIds = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def missing(self) -> TokenIds:
        return self.ids[self.cached :]


class HFEngine:
    """Generates and scores with a transformers model; see `exsearch.engine.base.Engine`."""

    def __init__(self, model: PreTrainedModel, fingerprint: str, max_batch: int = 64) -> None:
        """Wrap a loaded model; `max_batch` sequences are held at once, longer batches go in several."""
        self.model = model.eval()
        self.fingerprint = fingerprint
        self.max_batch = max_batch
        self.context_size = int(model.config.max_position_embeddings)
        self.stats = EngineStats()
        self._device = next(model.parameters()).device
        self._head: torch.nn.Module = model.get_output_embeddings()
        self._cache = SlotCache(model.config, next(model.parameters()).dtype, self._device)
        self._contents: list[TokenIds] = []
        """Token ids whose keys and values each slot holds."""

    @classmethod
    def load(cls, folder: Path, fingerprint: str, dtype: torch.dtype, device: str, max_batch: int = 64) -> "HFEngine":
        """Load a checkpoint folder."""
        disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        torch.nn.Module.to(model, device)
        return cls(model, fingerprint, max_batch)

    @torch.inference_mode()
    def generate(self, prompts: list[TokenIds], sampling: Sampling, seeds: list[int]) -> list[Completion]:
        """Continue each prompt until a stop token or the limit; see Engine."""
        start = time.monotonic()
        completions: list[Completion] = []
        for first in range(0, len(prompts), self.max_batch):
            chunk = slice(first, first + self.max_batch)
            completions += self._generate_batch(prompts[chunk], sampling, seeds[chunk])
        self.stats.seconds += time.monotonic() - start
        return completions

    @torch.inference_mode()
    def logprobs(self, prefixes: list[TokenIds], targets: list[TokenIds]) -> list[list[float]]:
        """Score each target behind its prefix; see Engine."""
        start = time.monotonic()
        scores: list[list[float]] = []
        for first in range(0, len(prefixes), self.max_batch):
            chunk = slice(first, first + self.max_batch)
            scores += self._score_batch(prefixes[chunk], targets[chunk])
        self.stats.seconds += time.monotonic() - start
        return scores

    def forget(self) -> None:
        """Drop what the slots hold; their memory stays allocated."""
        self._contents = [[] for _ in self._contents]

    def _generate_batch(self, prompts: list[TokenIds], sampling: Sampling, seeds: list[int]) -> list[Completion]:
        requests = [_Request(ids) for ids in prompts]
        self._place(requests, room=sampling.max_new_tokens)
        hidden = self._prefill(requests)
        noise = uniforms(seeds, sampling.max_new_tokens)
        live = list(range(len(requests)))
        stop_ids = set(sampling.stop_ids)
        for position in range(sampling.max_new_tokens):
            logits = self._head(hidden).float()
            tokens = draw(logits, noise[live, position], sampling.temperature, sampling.top_p)
            chosen = logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(dim=-1)
            for index, token, logprob in zip(live, tokens.tolist(), chosen.tolist(), strict=True):
                requests[index].output.append(token)
                requests[index].logprobs.append(logprob)
            live = [index for index in live if requests[index].output[-1] not in stop_ids]
            if not live or position + 1 == sampling.max_new_tokens:
                break
            hidden = self._decode([requests[index] for index in live])
        self.stats.generated_tokens += sum(len(request.output) for request in requests)
        return [Completion(r.output, r.logprobs, "stop" if r.output[-1] in stop_ids else "length") for r in requests]

    def _score_batch(self, prefixes: list[TokenIds], targets: list[TokenIds]) -> list[list[float]]:
        requests = [_Request(prefix) for prefix in prefixes]
        self._place(requests, room=max(map(len, targets)), share=False)
        # A target's tokens are predicted from the prefix's last token and from its own tokens but the last.
        fed = [r.missing + target[:-1] for r, target in zip(requests, targets, strict=True)]
        scores: list[list[float]] = [[] for _ in requests]
        for group in self._groups(requests, [len(ids) for ids in fed]):
            hidden = self._forward([requests[i] for i in group], [fed[i] for i in group])
            for row, index in enumerate(group):
                target = targets[index]
                states = hidden[row, len(fed[index]) - len(target) : len(fed[index])]
                logprobs = torch.log_softmax(self._head(states).float(), dim=-1)
                picked = logprobs.gather(1, torch.tensor(target, device=self._device)[:, None])
                scores[index] = picked.squeeze(1).tolist()
        return scores

    # Slots: where each sequence lives.

    def _place(self, requests: list[_Request], room: int, share: bool = True) -> None:
        """Give each request a slot, keeping what is cached; those to compute come first, their twins behind."""
        self._cache.reserve(len(requests), max(len(r.ids) for r in requests) + room)
        self._contents += [[] for _ in range(self._cache.slots - len(self._contents))]
        self._match(requests)
        if share:
            self._find_twins(requests)
        for group, first in ((False, 0), (True, sum(r.twin is None for r in requests))):
            members = [r for r in requests if (r.twin is not None) == group]
            self._make_contiguous(members, first, requests)
        for request in requests:
            del self._contents[request.slot][request.cached :]
            source = request if request.twin is None else request.twin
            self.stats.cached_tokens += len(request.ids) - (len(request.missing) if source is request else 0)
            self.stats.prefilled_tokens += len(request.missing) if source is request else 0

    def _match(self, requests: list[_Request]) -> None:
        """Assign to each request the free slot that holds the longest beginning of it, or an emptiest one.

        At least the last token of a prompt is always computed: its hidden state predicts the next.
        """
        free = dict.fromkeys(range(len(self._contents)))
        for request in requests:
            best = 0
            for slot in free:
                length = min(len(self._contents[slot]), len(request.ids) - 1)
                if length > best and self._contents[slot][:length] == request.ids[:length]:
                    best, request.slot = length, slot
            request.cached = best
            if best:
                del free[request.slot]
        for request in requests:
            if request.slot < 0:
                request.slot = min(free, key=lambda slot: len(self._contents[slot]))
                del free[request.slot]

    def _find_twins(self, requests: list[_Request]) -> None:
        originals: dict[tuple[int, ...], _Request] = {}
        # The longest cached one computes, the others copy.
        for request in sorted(requests, key=lambda r: -r.cached):
            original = originals.setdefault(tuple(request.ids), request)
            request.twin = None if original is request else original

    def _make_contiguous(self, members: list[_Request], first: int, requests: list[_Request]) -> None:
        """Move the members' rows into the slots from `first` on, in any order."""
        wanted = range(first, first + len(members))
        taken = {r.slot for r in members}
        vacant = [slot for slot in wanted if slot not in taken]
        for request in members:
            if request.slot not in wanted:
                self._swap(request.slot, vacant.pop(), requests)

    def _swap(self, a: int, b: int, requests: list[_Request]) -> None:
        contents = self._contents
        self._cache.swap(a, b, max(len(contents[a]), len(contents[b])))
        contents[a], contents[b] = contents[b], contents[a]
        moves = {a: b, b: a}
        for request in requests:
            request.slot = moves.get(request.slot, request.slot)

    # Forward passes.

    def _prefill(self, requests: list[_Request]) -> torch.Tensor:
        """Compute what is missing of each prompt; return the last hidden states, (requests, hidden size)."""
        last: dict[int, torch.Tensor] = {}
        originals = [r for r in requests if r.twin is None]
        for group in self._groups(originals, [len(r.missing) for r in originals]):
            members = [originals[i] for i in group]
            missing = [r.missing for r in members]
            hidden = self._forward(members, missing)
            for row, (request, ids) in enumerate(zip(members, missing, strict=True)):
                last[id(request)] = hidden[row, len(ids) - 1]
        for request in requests:
            if request.twin is not None:
                self._cache.copy(request.twin.slot, request.slot, request.cached, len(request.ids))
                self._contents[request.slot] = list(request.ids)
        return torch.stack([last[id(r.twin or r)] for r in requests])

    def _groups(self, requests: list[_Request], lengths: list[int]) -> list[list[int]]:
        """Cut requests, by index and in slot order, into passes of at most PREFILL_TOKENS padded tokens."""
        groups: list[list[int]] = []
        longest = 0
        for index in sorted(range(len(requests)), key=lambda i: requests[i].slot):
            longest = max(longest, lengths[index])
            if not groups or longest * (len(groups[-1]) + 1) > PREFILL_TOKENS:
                groups.append([])
                longest = lengths[index]
            groups[-1].append(index)
        return groups

    def _decode(self, live: list[_Request]) -> torch.Tensor:
        """Feed each live request's last token; return hidden states (live, hidden size).

        Finished rows inside the range are computed in vain until they are a quarter of it; then rows are moved.
        """
        span = max(r.slot for r in live) - min(r.slot for r in live) + 1
        if len(live) < 0.75 * span:
            self._make_contiguous(live, min(r.slot for r in live), live)
        first = min(r.slot for r in live)
        rows: list[TokenIds] = [[0]] * (max(r.slot for r in live) - first + 1)
        for request in live:
            rows[request.slot - first] = [request.output[-1]]
        hidden = self._forward_rows(first, rows, {r.slot for r in live})
        return hidden[[r.slot - first for r in live], 0]

    def _forward(self, requests: list[_Request], ids: list[TokenIds]) -> torch.Tensor:
        """Feed `ids` to the requests, which are in slot order and contiguous; return all hidden states."""
        return self._forward_rows(requests[0].slot, ids, {r.slot for r in requests})

    def _forward_rows(self, first: int, rows: list[TokenIds], keep: set[int]) -> torch.Tensor:
        """Run the model on right-padded rows for the slots from `first` on; returns (rows, longest, hidden size).

        Slots not in `keep` are finished ones in the way: their padding token is written behind their contents,
        where it is never seen.
        """
        longest = max(map(len, rows))
        lengths = [len(self._contents[first + row]) for row in range(len(rows))]
        positions = torch.tensor(lengths, device=self._device)[:, None] + torch.arange(longest, device=self._device)
        self._cache.reserve(self._cache.slots, int(positions.max()) + 1)
        mask = self._cache.aim(first, positions)
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in rows], device=self._device)
        hidden: torch.Tensor = self.model.base_model(
            input_ids=padded,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        for row, ids in enumerate(rows):
            if first + row in keep:
                self._contents[first + row] += ids
        return hidden
