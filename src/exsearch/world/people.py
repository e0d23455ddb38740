"""Schema of people: roles, given names, and the relations whose head is a person."""

from exsearch.world.schema import YEAR, Comparison, Kind, Relation, Role

ROLES = (
    Role(
        "science",
        18,
        ("botanist", "chemist", "geologist", "physicist", "astronomer", "mathematician", "zoologist"),
        (1800, 1960),
        "Dr.",
    ),
    Role("writing", 13, ("novelist", "poet", "playwright", "essayist", "journalist"), (1800, 1950)),
    Role("film", 11, ("film director", "screenwriter", "film producer", "cinematographer"), (1885, 1960)),
    Role("music", 15, ("composer", "pianist", "violinist", "singer", "songwriter", "conductor"), (1885, 1965)),
    Role("building", 8, ("architect", "civil engineer", "sculptor"), (1790, 1930)),
    Role("sea", 9, ("sea captain", "navigator", "naval officer", "whaler"), (1790, 1930), "Captain"),
    Role("exploring", 9, ("mountaineer", "explorer", "surveyor", "cartographer"), (1800, 1930)),
    Role("business", 10, ("merchant", "banker", "industrialist", "brewer"), (1760, 1900)),
    Role("politics", 9, ("politician", "lawyer", "judge", "philanthropist"), (1750, 1900)),
)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# A name, and after a colon the short form used in a nickname.
WOMEN = _listed(
    """
    Ada Agnes Alice:Allie Amelia:Millie Anna Audrey Beatrice:Bea Bridget Carol Cecily:Cis
    Charlotte:Lottie Clara Cora Daisy Della Diana:Di Dora Edith:Edie Eleanor:Nell Elizabeth:Betty
    Ella Emily:Em Emma Esther Ethel Eva Evelyn:Evie Fiona Flora Florence:Flo Frances:Fran Georgia
    Gladys Grace Greta Hannah Harriet:Hattie Hazel Helen:Nellie Ida Irene Isabel:Izzy Ivy
    Jane:Jenny Janet Joan Josephine:Josie Julia Kate Laura Leah Lena Lillian:Lily Louise:Lou Lucy
    Mabel Margaret:Maggie Marion Martha:Mattie Mary:Molly Matilda:Tilda Maud Miriam Nancy Nora
    Olive Pauline Pearl Rachel:Rae Rebecca:Becky Rose Ruth Sarah:Sally Sophia:Sophie Stella
    Susan:Sue Sylvia Theresa:Tess Vera Victoria:Vicky Viola Violet Winifred:Winnie
    """
)
MEN = _listed(
    """
    Abel Adam Albert:Bert Alexander:Alec Alfred:Alf Andrew:Andy Anthony:Tony Arthur:Art Basil
    Benjamin:Ben Bernard:Bernie Caleb Cecil Charles:Charlie Clarence Clement:Clem Conrad Cyril
    Daniel:Dan David:Dave Duncan Edgar Edmund:Ned Edward:Ted Edwin Ernest:Ernie Felix Francis:Frank
    Frederick:Fred Gabriel:Gabe George Gerald:Gerry Gilbert:Gil Godfrey Gordon Harold:Harry
    Henry:Hal Herbert Horace Howard Hugh Isaac:Ike Jacob:Jake James:Jim Jasper Jerome Joel
    John:Jack Jonathan:Jon Joseph:Joe Joshua:Josh Julian Laurence:Larry Leo Leonard:Len Louis Luke
    Magnus Martin:Marty Matthew:Matt Maurice Max Michael:Mick Miles Nathan:Nat Neville
    Nicholas:Nick Oliver:Ollie Oscar Owen Patrick:Paddy Paul Percy Peter:Pete Philip:Phil Ralph
    Raymond:Ray Richard:Dick Robert:Bob Robin Roger Roland Rupert Samuel:Sam Silas Simon
    Stephen:Steve Theodore:Theo Thomas:Tom Victor:Vic Walter:Walt William:Bill
    """
)

PERSON = Kind(
    name="person",
    share=100,
    namesakes=4,
    patterns=(),
    mention="the {occupation} {name}",
    two_passages=True,
    refs=("{they}", "{they}", "{surname}"),
    openings=(
        "{s} was a {occupation} remembered for {fame}.",
        "{s}, known to friends as {nick}, was a {occupation}.",
        "{s} ({birth_year}-{death}) was a {occupation} noted for {fame}.",
        "{s}, born in {birth_year} in {birthplace}, was a {occupation}.",
        "{s} was a {birthplace}-born {occupation} admired for {fame}.",
        "{s} was a {temper} {occupation} born in {birth_year}.",
        "{s} was a {temper} {occupation}, best known for {fame}.",
        "A {occupation} by calling, {s} owed {their} fame to {fame}.",
    ),
    flavours=(
        "{their} letters to {person} were later printed.",
        "{they} often quarrelled with {person}.",
        "{s} is sometimes confused with {person}.",
        "A street in {city} bears {their} name.",
        "{they} travelled twice to {city} in middle age.",
        "{s} left a diary that scholars still consult.",
        "Few portraits of {their} later years survive.",
        "{person} wrote an early sketch of {their} life.",
        "A lecture {they} gave in {city} drew large crowds.",
    ),
    attributes=(
        (
            "temper",
            ("restless", "celebrated", "little-known", "prolific", "stubborn", "popular", "self-taught"),
        ),
        (
            "fame",
            (
                "careful field notes",
                "a long public quarrel",
                "bold early work",
                "a lifelong study of tides",
                "generous teaching",
                "lively lectures",
                "patient experiments",
                "several daring journeys",
                "a famous collection of maps",
                "work on winter storms",
                "a quiet and exact style",
                "reforms that outlived the age",
            ),
        ),
    ),
)

PEOPLE_RELATIONS = (
    Relation(
        "birthplace",
        "person",
        "city",
        plain=("{s} was born in {o}.", "The birthplace of {s} was {o}."),
        rich=(
            "The youngest of five children, {s} was born in {o}.",
            "{s} came into the world in {o}, above a baker's shop.",
            "Parish books show that {s} was born in {o}.",
        ),
        asks=(
            "Where was {s} born?",
            "In which city was {s} born?",
            "What is the birthplace of {s}?",
            "Which town is the birthplace of {s}?",
        ),
        phrases=("the birthplace of {s}", "the city where {s} was born", "the town in which {s} was born"),
    ),
    Relation(
        "birth_year",
        "person",
        YEAR,
        plain=("{s} was born in {o}.", "{s} was born in the year {o}."),
        rich=("{s} was born in the spring of {o}.", "{s} was born during the cold winter of {o}."),
        asks=("In what year was {s} born?", "When was {s} born?", "What is the birth year of {s}?"),
        comparisons=(
            Comparison("Who was born earlier, {a} or {b}?", True),
            Comparison("Who was born later, {a} or {b}?", False),
            Comparison("Who is older, {a} or {b}?", True),
            Comparison("Of {a} and {b}, who was born first?", True),
            Comparison("Who is the younger of the two, {a} or {b}?", False),
        ),
    ),
    Relation(
        "studied_at",
        "person",
        "university",
        plain=("{s} studied at {o}.", "{s} was educated at {o}."),
        rich=(
            "After a modest schooling, {s} took a degree at {o}.",
            "{s} won a scholarship to {o} and graduated with honours.",
            "Against family wishes, {s} enrolled at {o}.",
        ),
        asks=(
            "Where did {s} study?",
            "Which university did {s} attend?",
            "At which university was {s} educated?",
            "What is the alma mater of {s}?",
        ),
        phrases=(
            "the university attended by {s}",
            "the alma mater of {s}",
            "the university where {s} studied",
        ),
        gap=(-18, 400),
    ),
    Relation(
        "spouse",
        "person",
        "person",
        plain=("{s} was married to {o}.", "{s} married {o}."),
        rich=("At the age of thirty {s} married {o}.", "{s} and {o} were married for many years."),
        asks=("Who was {s} married to?", "Who was the spouse of {s}?", "Whom did {s} marry?"),
        phrases=("the spouse of {s}", "the person who married {s}"),
    ),
    Relation(
        "mentor",
        "person",
        "person",
        plain=("{s} was taught by {o}.", "The mentor of {s} was {o}."),
        rich=(
            "{s} learned the trade as a pupil of {o}.",
            "It was {o} who taught {s} and opened the first doors.",
            "As a young apprentice {s} was taught by {o}.",
        ),
        asks=("Who taught {s}?", "Who was the mentor of {s}?", "Who was the teacher of {s}?"),
        phrases=("the mentor of {s}", "the teacher of {s}", "the person who taught {s}"),
        gap=(14, 45),
    ),
    Relation(
        "deathplace",
        "person",
        "city",
        plain=("{s} died in {o}.", "{s} spent the last years of life in {o} and died there."),
        rich=("After a short illness {s} died in {o}.", "{s} died at home in {o} and was widely mourned."),
        asks=("Where did {s} die?", "In which city did {s} die?", "What was the place of death of {s}?"),
        phrases=("the city where {s} died", "the town in which {s} died"),
    ),
    Relation(
        "employer",
        "person",
        "company",
        plain=("{s} worked for {o}.", "{s} was employed by {o}."),
        rich=(
            "To earn a living, {s} worked for {o} as a young clerk.",
            "{s} spent nine years in the drawing office of {o}.",
            "For a time {s} was on the payroll of {o}.",
        ),
        asks=("Which company did {s} work for?", "Who employed {s}?", "Which firm was the employer of {s}?"),
        phrases=("the company that employed {s}", "the firm {s} worked for", "the employer of {s}"),
        gap=(-30, 200),
    ),
)
