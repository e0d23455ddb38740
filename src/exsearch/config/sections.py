"""The settings, one class for each table of a recipe. Every key has a default; a recipe names only what it changes."""

import datetime
from typing import Annotated, Literal, get_args

import msgspec

from exsearch.core.named import ours_or_own

LARGEST = 10**9
"""No setting makes sense beyond this; it keeps infinity and mistyped numbers out."""
Positive = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0, le=LARGEST)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0, le=LARGEST)]
Temperature = Annotated[float, msgspec.Meta(gt=0, le=100)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

Normalisation = Literal["question", "trajectory", "token"]
Denominator = Literal["expected", "batch"]
EngineName = Literal["transformers", "vllm", "openai"]
GrammarName = Literal[
    "exsearch",
    "exsearch-select",
    "closed-book",
    "one-shot",
    "ircot",
    "self-ask",
    "search-r1",
    "zerosearch",
    "r1-searcher",
]
WeightingName = Literal["paper", "nll-mean", "em", "f1", "rft", "reference-v1", "uniform"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the TOML file."""


class ModelConfig(Section, frozen=True):
    """The language model.

    >>> xs.ModelConfig(path="work/warm", precision="fp32").engine
    'transformers'
    """

    path: str = "builtin:smollm2-135m"
    """Model to load: `builtin:smollm2-135m`, a local checkpoint folder, or a Hugging Face id."""
    device: str = "auto"
    """Device: `auto` uses a GPU if there is one; otherwise a torch device such as `cpu` or `cuda:0`."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of generation, scoring and the forward pass of training. `auto` is `bf16` where the hardware computes
    faster with it."""
    engine: Annotated[str, ours_or_own(get_args(EngineName))] = "transformers"
    """Engine that generates and scores: a built-in one, or your own function as `module:function`."""
    adapter: str = ""
    """Folder of a LoRA adapter for the model that answers, for the engines `transformers` and `vllm`."""
    tensor_parallel: Positive = 1
    """For `vllm`: number of GPUs that share one copy of the model."""
    data_parallel: Count = 0
    """For `transformers` and `vllm`: number of copies of the model, each on its own GPU or on its share of the
    CPU cores. 0 chooses the fastest number: one, or several for a small model on CPUs. Ignored on Ray, where
    `rollout.workers` is the number of copies."""
    url: str = ""
    """For `openai`: URL of the endpoint, ending in `/v1`. `path` then names the model whose tokenizer to use."""
    name: str = ""
    """For `openai`: name of the model at the endpoint."""
    api: Literal["completions", "chat"] = "completions"
    """For `openai`: `completions` sends token ids, `chat` sends messages to `/chat/completions`."""
    api_key_file: str = ""
    """For `openai`: file that contains the API key."""
    retokenise: bool = False
    """For `openai` servers that return no token ids: tokenise the returned text locally, and accept it where it decodes
    to the same text."""


class DataConfig(Section, frozen=True):
    """Index and questions.

    >>> xs.DataConfig(index="work/index", train="train.jsonl", test="test.jsonl", train_limit=100).train_limit
    100
    """

    index: str = ""
    """Index folder, URL of a retrieval server, `replay:FILE`, or `module:name` of your own that returns a retriever."""
    record: str = ""
    """File that records all searches. `replay:FILE` answers them later without the index."""
    warmup: str = ""
    """File of warm-up trajectories, as `exsearch data warmup` writes it."""
    train: str = ""
    """Question file to learn from. The first `warmup.questions` are used for the warm-up, or those of `data.warmup`
    where it is set; the others are explored."""
    dev: str = ""
    """Question file for choosing the best iteration. Not needed with `loop.guard`."""
    guard: str = ""
    """Question file for `loop.guard`; none of its questions may be trained on. By default, the last questions of
    `train`."""
    test: str = ""
    """Question file that is only evaluated on."""
    train_limit: Positive | None = None
    """Number of questions to read from the start of `train`."""
    dev_limit: Positive | None = None
    """Number of questions to read from the start of `dev`."""
    test_limit: Positive | None = None
    """Number of questions to read from the start of `test`."""


class AgentConfig(Section, frozen=True):
    """The agent's grammar and budgets.

    >>> agent = xs.load_agent(model, index, xs.AgentConfig(max_steps=3, passages=5))
    >>> agent.config.max_steps
    3
    """

    grammar: Annotated[str, ours_or_own(get_args(GrammarName))] = "exsearch"
    """Grammar, which says how model and retriever talk: the project's own, a baseline's, that of another system's
    checkpoints, or your own class as `module:Class`."""
    prompt: str = ""
    """First prompt, instead of the grammar's own, with `{question}` where the question goes; for example, the prompt
    that another system's checkpoint was trained on."""
    max_steps: Positive = 5
    """Maximum number of searches per question."""
    passages: Positive = 3
    """Number of passages per search (k)."""
    repeated: Literal["same", "next"] = "same"
    """What an exactly repeated query returns: the same passages, or the next page of results."""
    passage_tokens: Positive = 160
    """Maximum number of tokens per passage. Longer passages are truncated, long titles first, and the report counts
    them."""
    turn_tokens: Positive = 64
    """Maximum number of tokens per turn of the model."""
    context: Positive = 4096
    """Maximum number of tokens per trajectory; the model's own limit may be lower."""
    date: datetime.date = datetime.date(2026, 1, 1)
    """Date that a chat template sees as today's, so that a prompt does not depend on the day of the run."""
    thinking: Literal["template", "on", "off"] = "template"
    """Whether a model thinks before it answers, if its chat template has such a switch. `template` keeps the template's
    default; `on` and `off` override it."""


class RolloutConfig(Section, frozen=True):
    """Concurrency, timeouts and placement. None of these changes a trajectory's content.

    >>> agent = xs.load_agent(model, index, rollout=xs.RolloutConfig(in_flight=8))
    >>> agent.in_flight
    8
    """

    in_flight: Positive = 64
    """Number of trajectories in progress at the same time. Limits the memory for keys and values."""
    turn_seconds: PositiveFloat = 600.0
    """Time limit for one turn of the model, including the time it waits for the engine."""
    search_seconds: PositiveFloat = 60.0
    """Time limit for one search."""
    search_retries: Count = 2
    """Number of retries after a failed search, with a pause that doubles."""
    trajectory_seconds: PositiveFloat = 3600.0
    """Time limit for one trajectory."""
    ray: str = ""
    """Address of a Ray cluster to roll out on: `auto`, `local` for the processors of this machine, or HOST:PORT."""
    workers: Count = 0
    """On Ray: number of model replicas. 0 = one per GPU (or per `model.tensor_parallel` GPUs); without GPUs, one per
    processor."""


class TrainingConfig(Section, frozen=True):
    """One fine-tuning run, warm-up or M-step."""

    epochs: Positive = 2
    """Number of passes over the trajectories."""
    batch_size: Positive = 16
    """Trajectories per optimiser step, over all devices."""
    micro_batch_tokens: Positive = 2048
    """Maximum number of tokens per forward pass; a prefix that examples share counts once. Affects memory and speed,
    never the gradient."""
    gradient_checkpointing: bool = False
    """Recompute activations within layers instead of keeping them: half the memory, two thirds more time."""
    normalise: Normalisation = "question"
    """What the loss is averaged over: questions, whose weights sum to one (the paper's), trajectories, each first
    averaged over its own tokens, or tokens. With `denominator = "expected"`, `question` and `token` differ only by a
    constant."""
    denominator: Denominator = "expected"
    """Divisor of the loss of a step. `expected`: the weighted number of loss tokens that a batch has on average, a
    constant, so that a trajectory counts by its weight whichever batch it is in. `batch`: the weight of the step's own
    batch, as in versions before this setting."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1e-4
    """Peak learning rate."""
    warmup_ratio: Share = 0.1
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after that; `constant` does not fall."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: PositiveFloat = 10.0
    """Maximum gradient norm of a step; a longer gradient is scaled down to it. Unit: that of the loss, nats per
    weighted token, or nats per weighted trajectory with `denominator = "batch"`. If it clips every step, all batches
    move the model equally far, whatever their weight."""
    search_loss: NonNegativeFloat = 1.0
    """Factor of the first term, log p(z | x): learning to search."""
    answer_loss: NonNegativeFloat = 1.0
    """Factor of the second term, log p(y | x, z): learning to answer."""
    kl: NonNegativeFloat = 0.0
    """Factor of a third term, KL(p || p_start) at the loss tokens, weighted like them: distance from the model that
    training started from."""
    lora_rank: Count = 0
    """Rank of a LoRA adapter, merged into the checkpoint at the end. 0 trains all weights."""
    quantise: Literal["none", "4bit"] = "none"
    """`4bit` keeps the weights under the adapters in 4 bits during training (QLoRA, with bitsandbytes)."""
    frozen_layers: Count = 0
    """Number of lowest layers that are not trained; the embeddings are then not trained either. Saves time and memory.
    """
    keep_float32: bool = True
    """Where `model.precision` rounds the weights, also keep them in float32, in the checkpoint's folder `float32`.
    Training that starts from the checkpoint uses these."""
    save_steps: Positive = 50
    """Optimiser steps between resume points."""
    validation_share: Share = 0.0
    """Share of the questions whose trajectories are held out. Their loss is computed at every resume point and at the
    end, and the weights with the lowest loss become the checkpoint."""
    ranks: Positive = 1
    """Number of training processes, each on its own GPU or on its share of the processors."""
    sharding: Literal["none", "fsdp", "zero2", "zero3"] = "none"
    """With several ranks: replicate the model, or shard weights, gradients and optimiser state across them (`zero2`
    replicates the weights). `zero2` and `zero3` use DeepSpeed."""
    deepspeed: str = ""
    """JSON file with further DeepSpeed settings."""


class WarmupConfig(TrainingConfig, frozen=True):
    """Warm-up: supervised fine-tuning on gold trajectories.

    >>> xs.learn(model, gold, "work/warm", config=xs.WarmupConfig(epochs=1, learning_rate=1e-4))
    PosixPath('work/warm')
    """

    questions: Count = 200
    """Number of questions, from the start of the training file, to turn into gold trajectories. 0 if the model already
    knows the grammar."""
    gold: Literal["require", "insert"] = "require"
    """What happens to a question whose gold passage the index does not return: `require` skips the question, `insert`
    puts the passage in place of the last hit, at a random rank."""
    facts: Literal["evidence", "answer", "statement"] = "evidence"
    """What is recorded for a sub-question: its sentence of evidence, the sub-question with its answer, or a statement
    of the answer (the same as `answer` where the source has no statement)."""
    opening: Literal["sub-question", "question"] = "sub-question"
    """First query for a decomposed question: its first sub-question, or the question itself, followed by the
    sub-questions that its passages leave open."""


class ExploreConfig(Section, frozen=True):
    """The E-step's sampling.

    >>> rollouts = xs.explore(agent, questions, "work/two.jsonl", xs.ExploreConfig(samples=2, temperature=0.8))
    >>> len(rollouts)
    2
    """

    questions: Positive = 200
    """Number of training questions per iteration: the next ones after those of the warm-up, wrapping around at the end
    of the file."""
    samples: Positive = 4
    """Trajectories per question (K)."""
    temperature: Temperature = 1.0
    """Sampling temperature."""
    top_p: Share = 1.0
    """Nucleus sampling: the smallest set of tokens with this probability. 1 samples from all tokens."""
    first_samples: Count = 0
    """Number of samples to draw at a time, up to `samples`, until the weights are settled. 0 draws all `samples` at
    once."""
    settled: PositiveFloat = 0.3
    """Weights are settled when the relative standard error of the mean of p(y | x, z) over the samples is below this.
    """
    score_opening: bool = False
    """Also score the gold answer before the first passage is read: does the question need evidence at all?"""
    score_steps: bool = False
    """Also score the gold answer before the first passage and after every recorded fact: which search brought the
    evidence?"""
    branches: Positive = 1
    """Number of continuations from the step after which log p(y | ...) first rose by `branch_gain`. 1 does not branch.
    """
    branch_gain: PositiveFloat = 2.0
    """Rise that starts a branch, in nats."""


class WeighConfig(Section, frozen=True):
    """The E-step's weights.

    >>> weights = xs.weigh(rollouts, questions, xs.WeighConfig(weighting="f1"))
    >>> sum(each.weight for each in weights)
    1.0
    """

    weighting: Annotated[str, ours_or_own(get_args(WeightingName))] = "paper"
    """Weighting of a question's trajectories: a built-in one, or your own function as `module:function`."""
    temperature: PositiveFloat = 1.0
    """T in p(y | x, z)^(1/T)."""
    target_ess: NonNegativeFloat = 0.0
    """If > 0, raise T for each question until its weights have at least this effective sample size (`paper`,
    `nll-mean`)."""
    alias: Literal["sum", "best"] = "sum"
    """How several gold aliases count: log-sum-exp over them, or the best one."""
    gate: Literal["none", "drop", "damp"] = "none"
    """What happens to a question whose best p(y | x, z) is below `gate_probability`: `drop` skips it, `damp` multiplies
    its weights by the ratio of the two."""
    gate_probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    """Threshold of the gate."""
    gate_gain: NonNegativeFloat = 0.0
    """If > 0, also require that evidence raises the best answer's log-probability by this many nats. This rejects
    answers that the model could guess. Needs `explore.score_opening`."""


class LearnConfig(TrainingConfig, frozen=True):
    """The M-step.

    >>> weights = xs.weigh(rollouts, questions)
    >>> xs.learn(model, rollouts, "work/iter-1", weights, xs.LearnConfig(epochs=1, batch_size=8))
    PosixPath('work/iter-1')
    """

    min_weight: Share = 0.05
    """Minimum weight of a trajectory; lighter ones are skipped, since they cost time and change nothing."""
    warmup_mix: Count = 0
    """Number of warm-up trajectories added to each M-step with weight 1, against forgetting."""
    replay: Literal["none", "decay", "ratios"] = "none"
    """What an M-step learns from besides its own E-step: nothing, or the rollouts of earlier E-steps, with weights that
    decay (stochastic-approximation EM), or with weights recomputed under the current model."""
    replay_rate: Share = 0.5
    """For `decay`: share g of the newest rollouts in the objective; earlier ones keep 1 - g. 0 means 1/t in the t-th
    M-step, so that all E-steps count alike."""
    orders: Positive = 1
    """Number of training runs per M-step, each over the trajectories in a different order; the weights of the
    resulting models are averaged. Each run takes as long as one M-step."""
    step_credit: NonNegativeFloat = 0.0
    """If > 0, weight each turn by what it contributed: by the softmax of this times the rise of log p(y | ...), in
    nats; 1 on average. Needs `explore.score_steps`."""


class LoopConfig(Section, frozen=True):
    """The EM loop.

    >>> xs.Config(loop=xs.LoopConfig(iterations=2, guard=80)).loop.patience
    2
    """

    iterations: Positive = 3
    """Maximum number of EM iterations."""
    patience: Positive = 2
    """Number of iterations without a better validation score after which to stop."""
    guard: Count = 0
    """Number of held-out training questions on which each step is tried. A step that makes their answers less likely is
    shortened, then refused. They are also used to choose the best iteration. 0 takes every step, and `data.dev` is used
    to choose."""
    guard_samples: Count = 0
    """Trajectories per question of the guard, sampled as in exploring. 0 is one greedy trajectory."""


class TrackingConfig(Section, frozen=True):
    """Where figures are shown, in addition to metrics.jsonl."""

    report_to: list[Literal["trackio", "wandb", "tensorboard"]] = []
    """Trackers that also receive the figures of metrics.jsonl."""
    project: str = "exsearch"
    """Project name in the trackers."""
    name: str = ""
    """Run name in the trackers; by default the name of the run folder."""


class Config(Section, frozen=True):
    """Everything a run depends on.

    >>> config = xs.Config(seed=1, explore=xs.ExploreConfig(samples=8))
    >>> config.explore.samples, config.learn.epochs
    (8, 2)
    """

    title: str = "ExSearch run"
    """Heading of the report."""
    seed: Seed = 0
    """Seed of sampling, data order and adapters."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    agent: AgentConfig = AgentConfig()
    rollout: RolloutConfig = RolloutConfig()
    warmup: WarmupConfig = WarmupConfig()
    explore: ExploreConfig = ExploreConfig()
    weigh: WeighConfig = WeighConfig()
    learn: LearnConfig = LearnConfig()
    loop: LoopConfig = LoopConfig()
    tracking: TrackingConfig = TrackingConfig()
