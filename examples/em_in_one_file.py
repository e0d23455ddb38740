"""The EM loop of ExSearch in one file: a model of 135 million parameters learns to search from its own attempts.

    python examples/em_in_one_file.py --out runs/em-in-one-file

A question x has a known answer y. Nobody has written down how to find it: the trajectory z of sub-queries, passages and
recorded facts is latent, and is learned by generalised expectation-maximisation (arXiv 2505.20128).

1. Warm up: learn the grammar from a few gold trajectories, so that any attempt succeeds at all.
2. Explore: sample K trajectories per question from p(z | x).
3. Weigh: w_k = p(y | x, z_k) / sum_j p(y | x, z_j). An attempt counts by how likely it makes the right answer.
4. Learn: maximise sum_k w_k [log p(z_k | x) + log p(y | x, z_k)], then explore again with the better model.

On two cores it takes about ten minutes, without a GPU or a model hub. Stop it whenever you like: the same command
resumes. `exsearch train` does the same, with a guard against bad steps and a report.
"""

import argparse
import math
from pathlib import Path

import exsearch as xs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/em-in-one-file"), help="folder for all that is made")
parser.add_argument("--model", default="builtin:smollm2-135m", help="checkpoint folder, Hugging Face id, or built in")
parser.add_argument("--seed", type=int, default=1, help="of the world, the samples and the order of learning")
parser.add_argument("--passages", type=int, default=3000, help="of the world")
parser.add_argument("--warmup", type=int, default=16, help="questions with a gold trajectory to learn the grammar from")
parser.add_argument("--explore", type=int, default=32, help="questions per iteration, with nothing but an answer")
parser.add_argument("--samples", type=int, default=4, help="trajectories per question (K)")
parser.add_argument("--iterations", type=int, default=2, help="of explore, weigh and learn")
parser.add_argument("--frozen", type=int, default=15, help="lowest layers that keep their weights: half the time")
parser.add_argument("--test", type=int, default=50, help="questions to report on")
args = parser.parse_args()

# What is said to the model and how much of it: at most four searches of two short passages each.
agent_config = xs.AgentConfig(max_steps=4, passages=2, passage_tokens=80, turn_tokens=48, context=2048)
# Trajectories in flight at once. While some search, others generate.
rollout = xs.RolloutConfig(in_flight=48)
warm = xs.WarmupConfig(epochs=1, batch_size=2, learning_rate=4e-4, frozen_layers=args.frozen)
learn = xs.LearnConfig(epochs=1, batch_size=4, learning_rate=2e-4, frozen_layers=args.frozen)
explore = xs.ExploreConfig(samples=args.samples, temperature=0.8)
# Weights sum to one per question, also where all attempts are bad. The gate drops questions without a good one.
weigh = xs.WeighConfig(weighting="paper", gate="drop", gate_probability=0.1)


# ---- A world that no model has seen: an invented encyclopaedia, and questions that only its passages answer.

world = xs.World(seed=args.seed, passages=args.passages)
index = xs.build_index(world.passages(), "bm25", args.out / "index")
relations = ["birthplace", "studied_at", "employer", "first_mayor"]
count = args.warmup + args.iterations * args.explore
train = list(world.questions("train", count, hops=[1], relations=relations))
test = list(world.questions("test", args.test, hops=[1], relations=relations))
print(f"World: {args.passages} passages, {len(train)} questions to learn from, {len(test)} to report on. The first:")
print(f"  {train[0].text}  ({train[0].answers[0]})")


# ---- Warm-up: the annotations of a few questions, written out with the passages that the index returns.

gold = xs.gold_trajectories(args.model, train[: args.warmup], index, agent=agent_config)
print(f"Warm-up: learn the grammar from {len(gold)} gold trajectories.")
model = xs.learn(args.model, gold, args.out / "warmup", config=warm, agent=agent_config, seed=args.seed)


# ---- What is printed on the way.


def score(name: str, model: Path) -> xs.Evaluated:
    """Answer the test questions greedily and print how many are right; nothing is learned from them."""
    with xs.load_agent(model, index, agent_config, rollout=rollout) as agent:
        evaluation = xs.evaluate(agent, test, args.out / "eval" / name)
    print(f"{name}: exact match {evaluation.figures['em']}")
    return evaluation


def show_weights(questions: list[xs.Question], sampled: list[xs.Trajectory], weighted: list[xs.Weighted]) -> None:
    """Print how many questions there is something to learn from, and the attempts at one whose weights differ most."""
    attempts = {question.id: list[tuple[xs.Trajectory, xs.Weighted]]() for question in questions}
    for pair in zip(sampled, weighted, strict=True):
        attempts[pair[1].question_id].append(pair)
    spreads = {id: max(w.weight for _, w in group) - min(w.weight for _, w in group) for id, group in attempts.items()}
    kept = sum(any(w.weight > 0 for _, w in group) for group in attempts.values())
    question = max(questions, key=lambda each: spreads[each.id])
    print(f"  {kept} of {len(questions)} questions have an attempt to learn from. For instance:")
    print(f"    {question.text}  ({question.answers[0]})")
    for trajectory, each in attempts[question.id]:
        probability = 0.0 if each.logprob is None else math.exp(each.logprob)
        searches = "; ".join(step.query for step in trajectory.steps) or "no search"
        answer = trajectory.answer or trajectory.stop_reason
        print(f"    weight {each.weight:.2f}, p(y | x, z) {probability:.2f}: {searches} -> {answer}")


# ---- EM.

rollouts: list[xs.Trajectory] = []
weights: list[xs.Weighted] = []
before = after = score("warmup", model)
for iteration in range(1, args.iterations + 1):
    name = f"iter-{iteration}"

    # E-step, explore: the next questions, so that nothing is sampled that was learned.
    end = args.warmup + iteration * args.explore
    questions = train[end - args.explore : end]
    print(f"E-step: {args.samples} trajectories for each of {len(questions)} questions.")
    with xs.load_agent(model, index, agent_config, rollout=rollout) as agent:
        sampled = xs.explore(agent, questions, args.out / f"{name}.jsonl", explore, seed=args.seed + iteration - 1)

    # E-step, weigh: arithmetic on what was sampled. Try another weighting here, or one of your own.
    weighted = xs.weigh(sampled, questions, weigh)
    show_weights(questions, sampled, weighted)

    # M-step: the same trainer as the warm-up, each trajectory by its weight. Earlier rollouts count, too: what the
    # questions of one E-step have little of would be forgotten (stochastic-approximation EM).
    rollouts += sampled
    weights += weighted
    print(f"M-step: learn from {sum(each.weight > 0 for each in weights)} trajectories.")
    model = xs.learn(model, rollouts, args.out / name, weights, learn, agent=agent_config, seed=args.seed)
    after = score(name, model)


# ---- What it came to: the last model against the warm-up, question by question.

difference = xs.compare(before, after)["em"].difference
print(f"\nExact match: {before.figures['em'].mean:.0%} after the warm-up, {after.figures['em'].mean:.0%} after EM;")
print(f"the difference, paired, with its 95% interval: {difference}")
print(f"The model is in {model}.")
