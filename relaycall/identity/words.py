"""The PGP word list: bytes as words that are told apart over a bad line. Without I/O.

A byte at an even place is a word of two syllables, one at an odd place a word of three, so a word left out, said twice
or said in the wrong order is noticed. The list is Juola and Zimmermann's of 1995, here in lower case.
"""

from __future__ import annotations

import re
import unicodedata

from relaycall.errors import CodeMalformed

MAX_TEXT = 1000  # characters

_TWO_SYLLABLES = """
aardvark absurd accrue acme adrift adult afflict ahead aimless algol allow alone ammo ancient apple artist assume
athens atlas aztec baboon backfield backward banjo beaming bedlamp beehive beeswax befriend belfast berserk billiard
bison blackjack blockade blowtorch bluebird bombast bookshelf brackish breadline breakup brickyard briefcase burbank
button buzzard cement chairlift chatter checkup chisel choking chopper christmas clamshell classic classroom cleanup
clockwork cobra commence concert cowbell crackdown cranky crowfoot crucial crumpled crusade cubic dashboard deadbolt
deckhand dogsled dragnet drainage dreadful drifter dropper drumbeat drunken dupont dwelling eating edict egghead
eightball endorse endow enlist erase escape exceed eyeglass eyetooth facial fallout flagpole flatfoot flytrap fracture
framework freedom frighten gazelle geiger glitter glucose goggles goldfish gremlin guidance hamlet highchair hockey
indoors indulge inverse involve island jawbone keyboard kickoff kiwi klaxon locale lockup merit minnow miser mohawk
mural music necklace neptune newborn nightbird oakland obtuse offload optic orca payday peachy pheasant physique
playhouse pluto preclude prefer preshrunk printer prowler pupil puppy python quadrant quiver quota ragtime ratchet
rebirth reform regain reindeer rematch repay retouch revenge reward rhythm ribcage ringbolt robust rocker ruffled
sailboat sawdust scallion scenic scorecard scotland seabird select sentence shadow shamrock showgirl skullcap skydive
slingshot slowdown snapline snapshot snowcap snowslide solo southward soybean spaniel spearhead spellbind spheroid
spigot spindle spyglass stagehand stagnate stairway standard stapler steamship sterling stockman stopwatch stormy sugar
surmount suspense sweatband swelter tactics talon tapeworm tempest tiger tissue tonic topmost tracker transit trauma
treadmill trojan trouble tumor tunnel tycoon uncut unearth unwind uproot upset upshot vapor village virus vulcan waffle
wallet watchword wayside willow woodlark zulu
"""
_THREE_SYLLABLES = """
adroitness adviser aftermath aggregate alkali almighty amulet amusement antenna applicant apollo armistice article
asteroid atlantic atmosphere autopsy babylon backwater barbecue belowground bifocals bodyguard bookseller borderline
bottomless bradbury bravado brazilian breakaway burlington businessman butterfat camelot candidate cannonball capricorn
caravan caretaker celebrate cellulose certify chambermaid cherokee chicago clergyman coherence combustion commando
company component concurrent confidence conformist congregate consensus consulting corporate corrosion councilman
crossover crucifix cumbersome customer dakota decadence december decimal designing detector detergent determine
dictator dinosaur direction disable disbelief disruptive distortion document embezzle enchanting enrollment enterprise
equation equipment escapade eskimo everyday examine existence exodus fascinate filament finicky forever fortitude
frequency gadgetry galveston getaway glossary gossamer graduate gravity guitarist hamburger hamilton handiwork
hazardous headwaters hemisphere hesitate hideaway holiness hurricane hydraulic impartial impetus inception indigo
inertia infancy inferno informant insincere insurgent integrate intention inventive istanbul jamaica jupiter leprosy
letterhead liberty maritime matchmaker maverick medusa megaton microscope microwave midsummer millionaire miracle
misnomer molasses molecule montana monument mosquito narrative nebula newsletter norwegian october ohio onlooker
opulent orlando outfielder pacific pandemic pandora paperweight paragon paragraph paramount passenger pedigree pegasus
penetrate perceptive performance pharmacy phonetic photograph pioneer pocketful politeness positive potato processor
provincial proximate puberty publisher pyramid quantity racketeer rebellion recipe recover repellent replica reproduce
resistor responsive retraction retrieval retrospect revenue revival revolver sandalwood sardonic saturday savagery
scavenger sensation sociable souvenir specialist speculate stethoscope stupendous supportive surrender suspicious
sympathy tambourine telephone therapist tobacco tolerance tomorrow torpedo tradition travesty trombonist truncated
typewriter ultimate undaunted underfoot unicorn unify universe unravel upcoming vacancy vagabond vertigo virginia
visitor vocalist voyager warranty waterloo whimsical wichita wilmington wyoming yesteryear yucatan
"""

WORDS = (tuple(_TWO_SYLLABLES.split()), tuple(_THREE_SYLLABLES.split()))  # at even and at odd places
_BYTES = tuple({word: byte for byte, word in enumerate(words)} for words in WORDS)
_BETWEEN = re.compile(r"[\s_.,;:/\-\u00ad\u2010-\u2015\u2212]+")


def bytes_to_words(data: bytes) -> tuple[str, ...]:
    """One word for each byte."""
    return tuple(WORDS[place % 2][byte] for place, byte in enumerate(data))


def split_words(text: str) -> tuple[str, ...]:
    """The words of what somebody typed: in lower case, split at spaces, hyphens and the like.

    Raises:
        CodeMalformed: it is longer than 1000 characters.
    """
    if len(text) > MAX_TEXT:
        raise CodeMalformed("it is too long")
    return tuple(filter(None, _BETWEEN.split(unicodedata.normalize("NFKC", text).lower())))


def words_to_bytes(words: tuple[str, ...]) -> bytes:
    """One byte for each word, as `split_words` gives them.

    Raises:
        CodeMalformed: a word is not in the list, or not in its place. It says which one, and does not repeat it.
    """
    found = bytearray()
    for place, word in enumerate(words):
        byte = _BYTES[place % 2].get(word)
        if byte is None:
            elsewhere = word in _BYTES[1 - place % 2]
            fault = (
                "is not in its place: one is missing, or their order is wrong" if elsewhere else "is not in the list"
            )
            raise CodeMalformed(f"word {place + 1} {fault}")
        found.append(byte)
    return bytes(found)


def complete(prefix: str, position: int) -> tuple[str, ...]:
    """The words that begin like this and can stand at this place, which counts from 0; all 256 for an empty prefix."""
    begin = prefix.strip().lower()
    return tuple(sorted(word for word in WORDS[position % 2] if word.startswith(begin)))
