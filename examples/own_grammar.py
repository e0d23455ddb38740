"""A grammar of your own: how the model and the retriever talk. Here in plain words instead of tags.

    python examples/own_grammar.py --out runs/own-grammar
    PYTHONPATH=examples exsearch train RECIPE --set agent.grammar=own_grammar:PlainWords

A grammar words the prompts and reads the model's turns; methods that you do not override have usable defaults. The
script trains a model on gold trajectories in this grammar, over the built-in world, and then asks it a question.
"""

import argparse
import re
from pathlib import Path

import exsearch as xs

NAME = "own_grammar:PlainWords"
"""Name in recipes, journals and settings. The folder of this file must be on PYTHONPATH."""
TURN = re.compile(r"\s*(?:Note: \s*(?P<evidence>.*?)\s*)?(?:Search: \s*(?P<query>\S.*?)\s*|Done\.\s*)", re.DOTALL)


class PlainWords(xs.Grammar):
    """`Search: ...` asks, `Note: ...` records what was found, `Done.` ends the search."""

    tags = ("Search:", "Note:", "Done.")
    decomposes = True  # gold trajectories can be written in it: a turn records evidence, and asks or ends

    def opening(self, question: str) -> str:
        """Return the first prompt."""
        return f"Find the answer by searching.\nQuestion: {question}"

    def turn(self, action: xs.Action) -> str:
        """Return the model's turn for an action; `parse` reads it back."""
        note = "" if action.evidence is None else f"Note: {' '.join(action.evidence.split())} "
        return note + ("Done." if action.query is None else f"Search: {' '.join(action.query.split())}")

    def parse(self, text: str, first: bool) -> xs.Action:
        """Read a turn: the first must ask, each later one records something and then asks or ends."""
        match = TURN.fullmatch(text)
        if match is None or (match["evidence"] is None) != first or (first and match["query"] is None):
            raise xs.MalformedError(text)
        evidence, query = match["evidence"], match["query"]
        if self.has_tag(evidence or "") or self.has_tag(query or ""):
            raise xs.MalformedError(text)
        return xs.Action(evidence, query)


def main() -> None:
    """Train a model on the grammar, then ask it a question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/own-grammar"), help="folder for index and model")
    parser.add_argument("--model", default="builtin:smollm2-135m", help="model to start from")
    parser.add_argument("--questions", type=int, default=24, help="number of gold trajectories to train on")
    args = parser.parse_args()

    world = xs.World(seed=1, passages=1000)
    index = xs.build_index(world.passages(), "bm25", args.out / "index")
    agent_config = xs.AgentConfig(grammar=NAME, passages=2, passage_tokens=80, turn_tokens=48, context=2048)
    questions = world.questions("train", args.questions, hops=[1])
    gold = xs.gold_trajectories(args.model, questions, index, agent=agent_config)
    warmup_config = xs.WarmupConfig(epochs=1, batch_size=2, learning_rate=2e-4)
    model = xs.learn(args.model, gold, args.out / "model", config=warmup_config, agent=agent_config)
    with xs.load_agent(model, index, agent_config, rollout=xs.RolloutConfig(in_flight=1)) as agent:
        [question] = world.questions("test", 1, hops=[1])
        trajectory = agent.answer(question)
        print(f"question {question.text}  ({question.answers[0]})")
        for step in trajectory.steps:
            print(f"search   {step.query}\nnote     {step.evidence}")
        print(f"answer   {trajectory.answer or trajectory.stop_reason}")


if __name__ == "__main__":
    main()
