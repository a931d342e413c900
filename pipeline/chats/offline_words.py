"""The word tables of the offline rewriter and judge.

``SYNONYMS`` has one group a line. ``big = large`` replaces either by the other; ``house > home`` replaces only the left
side, for words that have more senses than the group means. The judge takes all forms of a group for one word, so a form
stands in one group only. ``!went back to`` is a simple past that cannot follow *was* or *had*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

SYNONYMS = """
child = kid
children = kids > youngsters
baby > infant
boy > lad
woman > lady
women > ladies
old man > elderly man
old woman > elderly woman
elderly couple > older couple
doctor = physician
lawyer = attorney
policeman = police officer
teacher > instructor
students = pupils
boss > manager
actor > performer
goalkeeper > goalie
fans = supporters
tourists > sightseers
thief > burglar
colleague = coworker
colleagues = coworkers
worker = employee
workers = employees
company = firm
couple > pair
audience > crowd
car = automobile
cars = automobiles
bicycle = bike
laptop > portable computer
phone = telephone
photograph > photo
movie = film
newspaper > paper
trip = journey
bookshop = bookstore
harbor = port
trash = garbage
sofa = couch
sweater = pullover
clothes > garments
purse = handbag
pants = trousers
faucet = tap
bathtub > tub
exam = examination
error = mistake
errors = mistakes
gift > present
discount > price cut
cup > mug
woods = forest
ocean = sea
path > trail
rock > stone
money > cash
power cut = power outage
his glasses = his spectacles
her glasses = her spectacles
for help > for assistance
a long fight > a hard-fought battle
side of the road = roadside
town > community

bought = purchased
began to = started to
began > started
decided to > !chose to
wanted to = wished to
tried to = attempted to
needed to > had to
agreed to = consented to
refused to = declined to
promised to = pledged to = vowed to
forgot to > neglected to
fixed = repaired = mended
closed > shut
shut down > powered down
turned on = switched on
turned off = switched off
shouted = yelled
cried > wept
cry > weep
laughed > chuckled
smiled > grinned
spoke > talked
walked > strolled
screamed > shrieked
argued = quarreled
arrived at > reached
arrived > turned up
returned to > !went back to
moved to = relocated to
saw a > spotted a
saw the > spotted the
noticed that > realized that
found a > discovered a
found out > learned
found > !came across
looked at > gazed at
looked for = searched for
drank all > finished all
ate a > consumed a
ate the > consumed the
brought the > carried the
brought a > carried a
gave the > handed the
gave him > handed him
gave her > handed her
gave me > handed me
got a = received a
got home = arrived home
got angry = became angry
got sick = fell ill
got married > tied the knot
loved > adored
hated = detested
hired > recruited
praised = commended
scolded = reprimanded
applauded > clapped
lost his keys = misplaced his keys
lost her keys = misplaced her keys
lost my keys = misplaced my keys
jumped = leaped
hid under > took cover under
hid behind > took cover behind
hid the > concealed the
slid off > slipped off
lake froze > lake iced over
cake collapsed > cake caved in
wilted > withered
answer the phone > pick up the phone
answered the phone > picked up the phone
asked a > approached a
canceled = cancelled > called off
postponed = put off
lowered = reduced
build > construct
built = constructed
cut the grass = mowed the lawn
caught a cold > !came down with a cold
bowed to > took a bow before
frowned at > scowled at
answered the > responded to the
threw the = tossed the
teeth hurt > teeth ached
back hurt > back ached
called the > phoned the
called a > phoned a
fell asleep > dozed off
woke up > awoke
woke > roused
hurried = rushed
waited for > awaited
hit > struck
pushed > shoved
finished = completed
disappeared = vanished
injured > hurt
passed away > died
sold > !parted with
tied > fastened
taken to > brought to
not allowed to = not permitted to
ran out of > had no more

big = large > sizable
bigger = larger
small > little
smaller > more compact
huge = enormous
a new > a brand-new
angry > irate
was happy = was glad
were happy = were glad
sad = unhappy
tired > weary
sick = ill
afraid of = scared of = frightened of
rich = wealthy
quiet > silent
difficult > challenging
expensive = costly
cheap = inexpensive
strong > powerful
slippery > slick
whole = entire
covered in = covered with
closed to traffic = shut to traffic
all of = all

loudly = noisily
quickly = swiftly
suddenly = abruptly
quietly = softly
accidentally = inadvertently
immediately = instantly
carefully = cautiously
often = frequently
usually = normally
finally > eventually
almost = nearly
very > really
outside > outdoors
every day > daily
during the night > overnight
during the evening > in the evening
in the middle of the night > in the dead of night
noon = midday
because of = due to
because > since
while > as
onto > up onto
over the fence > across the fence
in front of his > in the presence of his
near the = close to the
next to = beside
everyone = everybody
someone = somebody
nobody = no one
anyone = anybody
a lot of > plenty of
numerous > many
"""

OPPOSITES = """
quickly = slowly
loudly = quietly
early = late
before = after
always = never
often = rarely
big = small
bigger = smaller
strong = weak
old = new
open = closed
happy = sad
won the = lost the
opened the = closed the
bought a = sold a
lowered the = raised the
forgot to = remembered to
loved = hated
everyone = nobody
during the day = during the night
in the morning = in the evening
"""

FUNCTION_WORDS = """
the a an my our your his her their its this that these those some many few every each all both he she it they we you
there
""".split()  # noqa: SIM905  a list of words reads better as words
"""The words that lose their capital inside a sentence; any other first word may be a name."""

PLURALS = frozenset({"children", "people", "men", "women", "teeth", "feet", "mice", "police", "clothes"})
"""Nouns that take *were* without ending in s."""

SILENT = frozenset(["a", "an", "the", "of", "to", "by", "was", "were", "is", "are", "had", "has", "have", "been", "be"])
"""The words that the judge does not count."""

IRREGULAR = {
    "blew": "blown",
    "broke": "broken",
    "gave": "given",
    "hid": "hidden",
    "stole": "stolen",
    "threw": "thrown",
    "took": "taken",
    "wrote": "written",
}
REGULAR = """
bought built canceled closed commended completed constructed cut decorated finished fixed hired kicked left lost lowered
mended offered opened painted postponed praised purchased recruited reduced repaired scolded sold tied trimmed visited
washed
"""
"""The verbs that the rewriter may put into the passive voice; those of REGULAR are their own participles."""


@dataclass(frozen=True, slots=True)
class Word:
    """One form of a group: ``canonical`` stands for the whole group, ``others`` may be written in the form's place."""

    canonical: str
    others: tuple[str, ...]


@cache
def synonyms() -> Mapping[str, Word]:
    """Every form of the table, in lower case. Raises ValueError for a form in two groups."""
    found: dict[str, Word] = {}
    for line in filter(None, SYNONYMS.splitlines()):
        both, _, onward = line.partition(" > ")
        sources = both.split(" = ")
        targets = onward.split(" > ") if onward else []
        for form in (*sources, *targets):
            others = [other for other in (*sources, *targets) if other != form] if form in sources else []
            if form.lstrip("!") in found:
                raise ValueError(f"{form!r} stands in two groups")
            found[form.lstrip("!")] = Word(sources[0], tuple(others))
    return found


@cache
def opposites() -> Mapping[str, str]:
    """What turns each phrase of the table into its opposite, both ways."""
    pairs = [line.split(" = ") for line in filter(None, OPPOSITES.splitlines())]
    return {one: other for pair in pairs for one, other in (pair, reversed(pair))}


@cache
def participles() -> Mapping[str, str]:
    """The past participle of each verb that may be put into the passive voice, by its simple past."""
    return IRREGULAR | {verb: verb for verb in REGULAR.split()}
