"""The baseline without a model: the most common training answer, given to every question.

Baselines with a model are grammars of the agent (`agent/grammars`), evaluated as it is.
"""

from collections import Counter

import msgspec

from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.evaluation.evaluate import Evaluation, score
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.protocol import PROTOCOL, check_protocol, write_protocol
from exsearch.evaluation.scores import Scores, write_scores
from exsearch.questions.question import Question


def majority(train: list[Question], evaluation: Evaluation, name: str = "majority") -> Scores:
    """Score the most common answer to the training questions.

    Raises UsageError as `evaluate` does, and if the folder has another answer.
    """
    folder, questions = evaluation.folder, evaluation.questions
    protocol = msgspec.structs.replace(evaluation.protocol, method="majority", grammar="")
    check_protocol(folder, protocol)
    answer = Counter(question.answers[0] for question in train).most_common(1)[0][0]
    trajectories = [
        Trajectory(q.id, 0, [], answer, StopReason.ANSWERED, [], [], [], None, 0, "majority", "") for q in questions
    ]
    path = folder / TRAJECTORIES
    if path.exists() and list(read_jsonl(path, Trajectory)) != trajectories:
        raise UsageError(f"{path}: has another answer than {answer!r}; choose another folder")
    write_protocol(folder / PROTOCOL, protocol)
    write_jsonl(path, trajectories, sealed=True)
    scores = score(name, questions, trajectories, protocol.fingerprint)
    write_scores(folder, scores)
    return scores
