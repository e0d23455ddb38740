"""The EM loop of ExSearch in one file: a model of 135 million parameters learns to search from its own attempts.

    python examples/em_in_one_file.py --out runs/em-in-one-file

A question x has a known answer y. Nobody has written down how to find it: the trajectory z of sub-queries, passages and
recorded facts is latent, and is learned by generalised expectation-maximisation (arXiv 2505.20128).

1. Warm up: learn the grammar from a few gold trajectories, so that some attempts succeed at all.
2. Explore: sample K trajectories per question from p(z | x).
3. Weigh: w_k = p(y | x, z_k) / sum_j p(y | x, z_j). An attempt counts by how likely it makes the right answer.
4. Learn: maximise sum_k w_k [log p(z_k | x) + log p(y | x, z_k)], then explore again with the better model.

On two cores it takes about ten minutes, without a GPU or a model hub. Interrupt it whenever you like: the same command
resumes. `exsearch train` runs the same loop from a recipe and writes a report; `loop.guard` there checks each step.
"""

import argparse
import math
from pathlib import Path

import exsearch as xs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/em-in-one-file"), help="folder for all results")
parser.add_argument("--model", default="builtin:smollm2-135m", help="checkpoint folder, Hugging Face id, or built in")
parser.add_argument("--seed", type=int, default=1, help="seed of the world, the samples and the order of training")
parser.add_argument("--passages", type=int, default=3000, help="number of passages of the world")
parser.add_argument("--warmup", type=int, default=16, help="number of gold trajectories for the warm-up")
parser.add_argument("--explore", type=int, default=32, help="number of questions per iteration, with only an answer")
parser.add_argument("--samples", type=int, default=4, help="trajectories per question (K)")
parser.add_argument("--iterations", type=int, default=2, help="number of iterations of explore, weigh and learn")
parser.add_argument("--frozen", type=int, default=15, help="number of lowest layers to freeze; saves half the time")
parser.add_argument("--test", type=int, default=50, help="number of test questions")
args = parser.parse_args()


# ---- Settings.

# The conversation: at most four searches, each of which returns two short passages.
agent_config = xs.AgentConfig(max_steps=4, passages=2, passage_tokens=80, turn_tokens=48, context=2048)
# Trajectories in progress at once: while some search, others generate.
rollout_config = xs.RolloutConfig(in_flight=48)
explore_config = xs.ExploreConfig(samples=args.samples, temperature=0.8)
# The weights of a question sum to one even if all of its attempts are bad. The gate skips such questions.
weigh_config = xs.WeighConfig(weighting="paper", gate="drop", gate_probability=0.1)
warmup_config = xs.WarmupConfig(epochs=1, batch_size=2, learning_rate=4e-4, frozen_layers=args.frozen)
learn_config = xs.LearnConfig(epochs=1, batch_size=4, learning_rate=2e-4, frozen_layers=args.frozen)


# ---- Helpers: an evaluation, and a table of weights.


def score(name: str, model: Path, index: xs.Retriever, test: list[xs.Question]) -> xs.Evaluated:
    """Answer the test questions greedily and print how many answers are right; nothing is learned from them."""
    with xs.load_agent(model, index, agent_config, rollout=rollout_config) as agent:
        evaluation = xs.evaluate(agent, test, args.out / "eval" / name)
    print(f"{name}: exact match {evaluation.figures['em']}")
    return evaluation


def print_weights(questions: list[xs.Question], sampled: list[xs.Trajectory], weighted: list[xs.Weighted]) -> None:
    """Print how many questions have an attempt to learn from, and the attempts at the one whose weights differ most."""
    weights_of: dict[str, list[float]] = {question.id: [] for question in questions}
    for record in weighted:
        weights_of[record.question_id].append(record.weight)
    kept = [question for question in questions if any(weights_of[question.id])]
    print(f"  {len(kept)} of {len(questions)} questions have an attempt to learn from.")
    shown = max(questions, key=lambda question: max(weights_of[question.id]) - min(weights_of[question.id]))
    print(f"  For instance: {shown.text}  ({shown.answers[0]})")
    for trajectory, record in zip(sampled, weighted, strict=True):
        if record.question_id == shown.id:
            probability = 0.0 if record.logprob is None else math.exp(record.logprob)
            searches = "; ".join(step.query for step in trajectory.steps) or "no search"
            answer = trajectory.answer or trajectory.stop_reason
            print(f"    weight {record.weight:.2f}, p(y | x, z) {probability:.2f}: {searches} -> {answer}")


# ---- A world that no model has seen: an invented encyclopaedia, and questions that only its passages answer.

world = xs.World(seed=args.seed, passages=args.passages)
index = xs.build_index(world.passages(), "bm25", args.out / "index")
relations = ["birthplace", "studied_at", "employer", "first_mayor"]
count = args.warmup + args.iterations * args.explore
train = list(world.questions("train", count, hops=[1], relations=relations))
test = list(world.questions("test", args.test, hops=[1], relations=relations))
print(f"World: {args.passages} passages, {len(train)} training questions, {len(test)} test questions. The first:")
print(f"  {train[0].text}  ({train[0].answers[0]})")


# ---- Warm-up: the annotations of a few questions as trajectories, with the passages that the index returns.

gold = xs.gold_trajectories(args.model, train[: args.warmup], index, agent=agent_config)
print(f"Warm-up: learn the grammar from {len(gold)} gold trajectories.")
model = xs.learn(args.model, gold, args.out / "warmup", config=warmup_config, agent=agent_config, seed=args.seed)
before = after = score("warmup", model, index, test)


# ---- EM.

all_rollouts: list[xs.Trajectory] = []
all_weights: list[xs.Weighted] = []
for iteration in range(1, args.iterations + 1):
    name = f"iter-{iteration}"

    # E-step, explore: each iteration takes new questions, on which the model was not trained.
    end = args.warmup + iteration * args.explore
    questions = train[end - args.explore : end]
    print(f"E-step: {args.samples} trajectories for each of {len(questions)} questions.")
    with xs.load_agent(model, index, agent_config, rollout=rollout_config) as agent:
        seed = args.seed + iteration - 1
        rollouts = xs.explore(agent, questions, args.out / f"{name}.jsonl", explore_config, seed=seed)

    # E-step, weigh: arithmetic on the samples. Try another weighting here, or one of your own.
    weights = xs.weigh(rollouts, questions, weigh_config)
    print_weights(questions, rollouts, weights)

    # M-step: the trainer of the warm-up, now with a weight for each trajectory. Also learn from the rollouts of earlier
    # iterations, so that the model does not forget question types that are rare in this one.
    all_rollouts += rollouts
    all_weights += weights
    positive = sum(record.weight > 0 for record in all_weights)
    print(f"M-step: learn from {positive} trajectories, except those with a weight below {learn_config.min_weight}.")
    out = args.out / name
    model = xs.learn(model, all_rollouts, out, all_weights, learn_config, agent=agent_config, seed=args.seed)
    after = score(name, model, index, test)


# ---- The result: the last model compared with the warm-up, question by question.

difference = xs.compare(before, after)["em"].difference
print(f"\nExact match: {before.figures['em'].mean:.0%} after the warm-up, {after.figures['em'].mean:.0%} after EM;")
print(f"the difference, paired, with its 95% interval: {difference}")
print(f"The model is in {model}.")
