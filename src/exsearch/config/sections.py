"""The settings, one class for each table of a recipe. Every key has a default; a recipe names only what it changes."""

import datetime
from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

Normalisation = Literal["question", "trajectory", "token"]
Denominator = Literal["expected", "batch"]
GrammarName = Literal[
    "exsearch", "closed-book", "one-shot", "ircot", "self-ask", "search-r1", "zerosearch", "r1-searcher"
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
    """`builtin:smollm2-135m`, a local checkpoint folder, or a Hugging Face id."""
    device: str = "auto"
    """`auto` takes a GPU if there is one; else a torch device such as `cpu` or `cuda:0`."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of generation, scoring and the forward pass of training; `auto` is bf16 on hardware that is faster in it."""
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    """What generates and scores."""
    adapter: str = ""
    """Folder of a LoRA adapter to put on the model that answers, for the engines `transformers` and `vllm`."""
    tensor_parallel: Positive = 1
    """GPUs that vLLM cuts the model over."""
    data_parallel: Count = 0
    """For `transformers` and `vllm`: copies of the model, on GPUs of their own or each on a share of the processors.

    0 takes as many as are faster: one, but several of a small model where there are eight processors or more. On Ray it
    does not count: there `rollout.workers` are the copies.
    """
    url: str = ""
    """For `openai`: the endpoint, ending in `/v1`. `path` then names what has its tokenizer."""
    name: str = ""
    """For `openai`: the model's name there."""
    api: Literal["completions", "chat"] = "completions"
    """For `openai`: token ids to `/completions`, or messages to `/chat/completions`."""
    api_key_file: str = ""
    """For `openai`: file with the key."""
    retokenise: bool = False
    """For `openai`: take tokens made here of the server's text for its own where the text comes back from them."""


class DataConfig(Section, frozen=True):
    """Index and questions.

    >>> xs.DataConfig(index="work/index", train="train.jsonl", test="test.jsonl", train_limit=100).train_limit
    100
    """

    index: str = ""
    """Index folder, URL of a retrieval server, `replay:FILE`, or `module:name` of your own that returns a retriever."""
    record: str = ""
    """File that records all searches, so that `replay:FILE` answers them later with no index at hand."""
    warmup: str = ""
    """File of ready trajectories for the warm-up, as `exsearch data warmup` writes it."""
    train: str = ""
    """Question file to learn from: the first part for warm-up where it has annotations, the rest to explore; all to
    explore but what `warmup` has."""
    dev: str = ""
    """Question file that chooses the best iteration; not needed with `loop.guard`."""
    guard: str = ""
    """Question file for `loop.guard`, none of which may be learned from; by default the last questions of `train`."""
    test: str = ""
    """Question file that is only evaluated on."""
    train_limit: Positive | None = None
    dev_limit: Positive | None = None
    test_limit: Positive | None = None


class AgentConfig(Section, frozen=True):
    """The agent's grammar and budgets.

    >>> agent = xs.load_agent(model, index, xs.AgentConfig(max_steps=3, passages=5))
    >>> agent.config.max_steps
    3
    """

    grammar: str = "exsearch"
    """How model and retriever talk: the project's own way, a baseline's, that of another system's checkpoints (one of
    `GrammarName`), or a class of your own as `module:Class`."""
    prompt: str = ""
    """Words of the first prompt instead of the grammar's own, with `{question}` where the question goes: such as those
    that another system's checkpoint was trained on."""
    max_steps: Positive = 5
    """Most searches a question."""
    passages: Positive = 3
    """Passages a search (k)."""
    repeated: Literal["same", "next"] = "same"
    """What a query brings that was asked before in the trajectory, word for word: the same passages, or those that rank
    next."""
    passage_tokens: Positive = 160
    """Maximum of tokens per passage; longer ones are shortened, long titles first, and counted."""
    turn_tokens: Positive = 64
    """Most tokens a turn of the model."""
    context: Positive = 4096
    """Most tokens a trajectory, if the model's own limit is not lower."""
    date: datetime.date = datetime.date(2026, 1, 1)
    """What a chat template that writes today's date takes for it: the same on every day a run takes."""
    thinking: Literal["template", "on", "off"] = "template"
    """Whether a model thinks before it speaks, if its chat template leaves that open: as the template has it, or so."""


class RolloutConfig(Section, frozen=True):
    """How trajectories are run; what they say does not depend on it.

    >>> agent = xs.load_agent(model, index, rollout=xs.RolloutConfig(in_flight=8))
    >>> agent.in_flight
    8
    """

    in_flight: Positive = 64
    """Trajectories under way at once: bounds the memory for keys and values."""
    turn_seconds: PositiveFloat = 600.0
    """Most time for one turn of the model, the wait for its turn included."""
    search_seconds: PositiveFloat = 60.0
    """Most time for one search."""
    search_retries: Count = 2
    """A search that fails is tried again so many times, after a pause that doubles."""
    trajectory_seconds: PositiveFloat = 3600.0
    """Most time for one trajectory."""
    ray: str = ""
    """Roll out on the Ray cluster at this address: `auto`, `local` for this machine's processors, or HOST:PORT."""
    workers: Count = 0
    """On Ray: how many models are loaded; 0 is one a GPU (or `model.tensor_parallel` of them), else one a processor."""


class TrainingConfig(Section, frozen=True):
    """One fine-tuning run, warm-up or M-step."""

    epochs: Positive = 2
    batch_size: Positive = 16
    """Trajectories an optimiser step, over all devices."""
    micro_batch_tokens: Positive = 2048
    """Most tokens of one forward pass, those that examples begin with alike counted once; changes memory and speed,
    never the gradient."""
    gradient_checkpointing: bool = False
    """Keep no activations within layers and compute them again: two thirds more time, half the memory."""
    normalise: Normalisation = "question"
    """What the loss is a mean over: questions, whose weights sum to one (the paper's), trajectories, each the mean over
    its own tokens, or tokens. With `denominator = "expected"`, the first and the last differ by a constant alone."""
    denominator: Denominator = "expected"
    """What the loss of a step is divided by: the weighted number of loss tokens that a batch is expected to have, a
    constant, so that a trajectory counts by its weight whatever shares its batch; or the weight of the step's own
    batch, as versions before this setting did."""
    learning_rate: PositiveFloat = 1e-4
    warmup_ratio: Share = 0.1
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How it falls after that."""
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat = 10.0
    """Largest gradient norm of a step; a longer gradient is shortened to it. In the unit of the loss: nats per weighted
    token, or with `denominator = "batch"` nats per weighted trajectory. One that cuts every step makes all batches move
    the model equally far, whatever their weight."""
    search_loss: NonNegativeFloat = 1.0
    """Factor of the first term, log p(z | x): learning to search."""
    answer_loss: NonNegativeFloat = 1.0
    """Factor of the second term, log p(y | x, z): learning to answer."""
    kl: NonNegativeFloat = 0.0
    """Factor of a third term, how far the model has moved: KL(p || p_start) at the loss tokens, weighted like them."""
    lora_rank: Count = 0
    """0 trains all weights; else a LoRA adapter of this rank, merged into the checkpoint at the end."""
    quantise: Literal["none", "4bit"] = "none"
    """`4bit`: the weights under the adapters are kept in 4 bits while training (QLoRA, by bitsandbytes)."""
    frozen_layers: Count = 0
    """The embeddings and this many of the lowest layers keep their weights: less time, memory and freedom."""
    keep_float32: bool = True
    """Keep the trained weights in float32, too, in the checkpoint's folder `float32`, where `model.precision` rounds
    them; training that begins with a checkpoint goes on from these."""
    save_steps: Positive = 50
    """Optimiser steps between resume points."""
    validation_share: Share = 0.0
    """Share of the questions whose trajectories are held out: the loss on them is taken at every resume point and at
    the end, and the weights with the lowest one become the checkpoint."""
    ranks: Positive = 1
    """Processes that train together, each on a GPU of its own or on a share of the processors."""
    sharding: Literal["none", "fsdp", "zero2", "zero3"] = "none"
    """With several ranks: a copy of the model on each, or weights, gradients and moments cut over them (`zero2`: not
    the weights); `zero2` and `zero3` are DeepSpeed's."""
    deepspeed: str = ""
    """JSON file with further settings of DeepSpeed."""


class WarmupConfig(TrainingConfig, frozen=True):
    """Warm-up: supervised fine-tuning on gold trajectories.

    >>> xs.learn(model, gold, "work/warm", config=xs.WarmupConfig(epochs=1, learning_rate=1e-4))
    PosixPath('work/warm')
    """

    questions: Count = 200
    """The first so many training questions are turned into gold trajectories; 0 for a model that knows the grammar."""
    gold: Literal["require", "insert"] = "require"
    """A gold passage that the index does not return: leave the question out, or put the passage in place of the last
    hit, at a random rank."""
    facts: Literal["evidence", "answer", "statement"] = "evidence"
    """What is recorded of a sub-question: the sentence of evidence, the sub-question and its answer, or its answer in a
    sentence of its own (of a source without one, the same as `answer`)."""
    opening: Literal["sub-question", "question"] = "sub-question"
    """What a decomposed question searches for first: its first sub-question, or the question itself, whose passages
    answer what they can; the sub-questions left open follow."""


class ExploreConfig(Section, frozen=True):
    """The E-step's sampling.

    >>> rollouts = xs.explore(agent, questions, "work/two.jsonl", xs.ExploreConfig(samples=2, temperature=0.8))
    >>> len(rollouts)
    2
    """

    questions: Positive = 200
    """Training questions an iteration, taken in order after those of the warm-up; they wrap around."""
    samples: Positive = 4
    """K, trajectories a question."""
    temperature: PositiveFloat = 1.0
    top_p: Share = 1.0
    first_samples: Count = 0
    """If not 0, so many samples are drawn first, and further ones, up to `samples`, until the weights are settled."""
    settled: PositiveFloat = 0.3
    """Weights are settled if the relative standard error of the mean of p(y | x, z) over the samples is below this."""
    score_opening: bool = False
    """Score the gold answer before the first passage is read, too: does it need evidence at all?"""
    score_steps: bool = False
    """The same, and after every recorded fact: which search brought the evidence?"""
    branches: Positive = 1
    """Continuations of a trajectory from the step after which log p(y | ...) first rose by `branch_gain`; 1 is none."""
    branch_gain: PositiveFloat = 2.0
    """In nats."""


class WeighConfig(Section, frozen=True):
    """The E-step's weights.

    >>> weights = xs.weigh(rollouts, questions, xs.WeighConfig(weighting="f1"))
    >>> sum(each.weight for each in weights)
    1.0
    """

    weighting: str = "paper"
    """One of `WeightingName`, or a function of your own as `module:function`."""
    temperature: PositiveFloat = 1.0
    """T in p(y | x, z)^(1/T)."""
    target_ess: NonNegativeFloat = 0.0
    """If not 0, a question's T is raised until its weights have at least this effective sample size (`paper`,
    `nll-mean`)."""
    alias: Literal["sum", "best"] = "sum"
    """Several gold aliases: log-sum-exp over them, or the best one."""
    gate: Literal["none", "drop", "damp"] = "none"
    """A question whose best p(y | x, z) is below `gate_probability` is dropped, or damped by their ratio."""
    gate_probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    gate_gain: NonNegativeFloat = 0.0
    """If not 0, the gate asks this, too, of a question's best log p(y | x, z) - log p(y | x), in nats: guesses do not
    pass. Needs `explore.score_opening`."""


class LearnConfig(TrainingConfig, frozen=True):
    """The M-step.

    >>> weights = xs.weigh(rollouts, questions)
    >>> xs.learn(model, rollouts, "work/iter-1", weights, xs.LearnConfig(epochs=1, batch_size=8))
    PosixPath('work/iter-1')
    """

    min_weight: Share = 0.05
    """Trajectories with a smaller weight are left out; they would cost time and move nothing."""
    warmup_mix: Count = 0
    """Warm-up trajectories mixed into each M-step, with weight 1, against forgetting."""
    replay: Literal["none", "decay", "ratios"] = "none"
    """What an M-step learns from beside the rollouts of its own E-step: those of earlier ones, with weights that decay
    (stochastic-approximation EM), or that are computed again under the present model."""
    replay_rate: Share = 0.5
    """Of `decay`: the share g of the newest rollouts in the objective; what there was before keeps 1 - g. 0 stands for
    1/t in the t-th M-step: the rollouts of all E-steps count alike."""
    orders: Positive = 1
    """M-steps in so many orders of the trajectories, whose weights are averaged; each takes the time of one."""
    step_credit: NonNegativeFloat = 0.0
    """If not 0, turns count by what they brought: by the softmax of this times the rise of log p(y | ...), in nats,
    one on average. Needs `explore.score_steps`."""


class LoopConfig(Section, frozen=True):
    """The EM loop.

    >>> xs.Config(loop=xs.LoopConfig(iterations=2, guard=80)).loop.patience
    2
    """

    iterations: Positive = 3
    patience: Positive = 2
    """Stop after this many iterations without a better validation score."""
    guard: Count = 0
    """Held-out training questions on which each step is tried: one that makes their answers less likely is shortened,
    then refused. They also choose the best iteration. 0: every step is taken, and `data.dev` chooses."""
    guard_samples: Count = 0
    """Trajectories per question of the guard, sampled as in exploring; 0 is one greedy trajectory."""


class TrackingConfig(Section, frozen=True):
    """Where figures are shown beside metrics.jsonl."""

    report_to: list[Literal["trackio", "wandb", "tensorboard"]] = []
    project: str = "exsearch"
    name: str = ""
    """Of the run; by default that of its folder."""


class Config(Section, frozen=True):
    """Everything a run depends on.

    >>> config = xs.Config(seed=1, explore=xs.ExploreConfig(samples=8))
    >>> config.explore.samples, config.learn.epochs
    (8, 2)
    """

    title: str = "ExSearch run"
    seed: Count = 0
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
