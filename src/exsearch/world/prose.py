"""Writes the passages of a block: a few sentences per entity, each fact in exactly one passage."""

import random
import re
from string import Formatter

from exsearch.corpus.passage import Passage
from exsearch.world.block import Block, facts_to_tell
from exsearch.world.catalogue import RELATIONS
from exsearch.world.entity import Entity, Fact
from exsearch.world.schema import Relation

_WORDS = (28, 42)
"""Range of the number of words, drawn per passage, up to which it gets further sentences."""
_FLAVOUR = 0.3
"""Chance of one sentence without a fact before the facts are used up."""
_ALIAS = 0.4
"""Chance that a second passage first calls its subject by an alias."""
_A = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!uni|one|eu|Uni|Eu)")


def fields(template: str) -> list[str]:
    """Return the field names of a template."""
    return [field for _, field, _, _ in Formatter().parse(template) if field]


def sentence(text: str) -> str:
    """Capitalise the first letter, and write 'an' before a vowel."""
    text = _A.sub(r"\1n ", text)
    return text[:1].upper() + text[1:]


def write_passages(block: Block, first_id: int, prefix: str, rng: random.Random) -> list[Passage]:
    """Write the block's passages, in shuffled order, and record which passage states which fact."""
    drafts: list[tuple[Entity, str, list[str]]] = []
    spare = block.passages - len(block.entities)
    # The entities with the most untold facts get second passages.
    ranked = sorted(block.entities, key=lambda e: (not e.kind.two_passages, -min(len(e.facts), 5), rng.random()))
    doubled = {id(entity) for entity in ranked[:spare]}
    for entity in block.entities:
        untold = facts_to_tell(entity)
        rng.shuffle(untold)
        second = untold[: len(untold) // 2] if id(entity) in doubled else []
        drafts.append((entity, *_first_passage(block, entity, untold[len(second) :], rng)))
        if id(entity) in doubled:
            drafts.append((entity, *_second_passage(block, entity, second, rng)))
    rng.shuffle(drafts)
    passages = []
    for number, (entity, text, stated) in enumerate(drafts, start=first_id):
        passages.append(Passage(f"{prefix}{number}", entity.title, text))
        entity.stated_in.update(dict.fromkeys(stated, passages[-1].id))
    return passages


def _first_passage(block: Block, entity: Entity, untold: list[Relation], rng: random.Random) -> tuple[str, list[str]]:
    own = {relation.name for relation in untold}
    openings = [
        opening
        for opening in entity.kind.openings
        if all(field in own or (field not in RELATIONS and _known(entity, field)) for field in fields(opening))
    ]
    opening = rng.choice(openings)
    stated = [field for field in fields(opening) if field in own]
    # A shared name appears here without its description, which is in the title.
    text = _fill(block, entity, opening, entity.name.forms[0], rng)
    rest = [relation for relation in untold if relation.name not in stated]
    return _continue(block, entity, text, stated, rest, rng)


def _second_passage(block: Block, entity: Entity, untold: list[Relation], rng: random.Random) -> tuple[str, list[str]]:
    relation, *rest = untold
    called = entity.name.forms[0]
    if not entity.shared and entity.name.aliases and rng.random() < _ALIAS:
        called = rng.choice([*entity.name.forms, *(a for a in entity.name.aliases if a.split()[1:])])
    templates = [template for template in (*relation.plain, *relation.rich) if "{s}" in template]
    text = _state(entity, relation, rng.choice(templates), called)
    return _continue(block, entity, text, [relation.name], rest, rng)


def _continue(
    block: Block, entity: Entity, text: str, stated: list[str], rest: list[Relation], rng: random.Random
) -> tuple[str, list[str]]:
    """Add facts of `rest`, and now and then a sentence that tells none, until the passage is long enough."""
    target = rng.randint(*_WORDS)
    flavours = rng.sample(entity.kind.flavours, 3)
    stated, strayed = list(stated), False
    while len(text.split()) < target:
        if flavours and (not rest or (not strayed and rng.random() < _FLAVOUR)):
            strayed = True
            added = _fill(block, entity, flavours[-1], _ref(entity, rng, flavours.pop()), rng)
        elif rest:
            relation = rest.pop(0)
            template = rng.choice(rng.choice((relation.plain, relation.rich)))
            added = _state(entity, relation, template, _ref(entity, rng, template))
            stated.append(relation.name)
        else:
            break
        text = f"{text} {added}"
    return text, stated


def _known(entity: Entity, field: str) -> bool:
    return field == "s" or field in entity.attributes


def _ref(entity: Entity, rng: random.Random, template: str) -> str:
    """Choose how to call an entity named before; a pronoun may only open a sentence."""
    refs = entity.kind.refs if template.startswith("{s}") else entity.kind.refs[-1:]
    return rng.choice(refs).format(**entity.attributes)


def _state(entity: Entity, relation: Relation, template: str, called: str) -> str:
    return sentence(template.format(s=called, o=Fact(entity, relation).tail_words, **entity.attributes))


def _fill(block: Block, entity: Entity, template: str, called: str, rng: random.Random) -> str:
    """Fill a template whose fields are attributes, relations and passing mentions."""
    values = dict(entity.attributes) | {"s": called}
    for field in fields(template):
        if field in ("person", "city"):
            values[field] = block.other(field, entity, rng).mention
        elif field in RELATIONS:
            values[field] = Fact(entity, RELATIONS[field]).tail_words
    return sentence(template.format(**values))
