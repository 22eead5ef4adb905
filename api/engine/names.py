"""Container and volume names: what is allowed, and what is invented."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container

from api.engine.errors import InvalidParameter

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)

_ADJECTIVE_WORDS = (
    "admiring amazing awesome bold brave busy charming clever compassionate cool dazzling"
    " eager ecstatic elastic elegant epic fervent festive focused friendly gallant gifted goofy"
    " gracious happy hopeful inspiring intelligent jolly jovial keen kind laughing loving lucid"
    " magical modest musing mystifying naughty nervous nice nifty nostalgic objective optimistic"
    " peaceful pedantic pensive practical priceless quirky quizzical recursing relaxed reverent"
    " romantic serene sharp silly sleepy stoic strange sweet tender thirsty trusting unruffled"
    " upbeat vibrant vigilant vigorous wizardly wonderful xenodochial youthful zealous zen"
)
_PEOPLE_WORDS = (
    "agnesi albattani archimedes babbage banach bardeen bell bohr boole borg bose brahmagupta brown"
    " carson cartwright cerf chandrasekhar cohen cori cray curie darwin davinci dijkstra dirac"
    " edison einstein elion engelbart euclid euler fermat fermi feynman franklin galileo gates"
    " gauss goldberg goldstine goodall haibt hamilton hawking heisenberg hertz hopper hypatia"
    " jackson jang jepsen johnson kalam kare keller kepler khorana kilby knuth kowalevski lalande"
    " lamarr leakey leavitt liskov lovelace lumiere mahavira mayer mccarthy mcclintock meitner"
    " mendel mendeleev mestorf mirzakhani morse neumann newton nightingale nobel noether pare"
    " pascal pasteur payne perlman pike poincare ptolemy raman ramanujan ride ritchie roentgen"
    " rosalind saha sammet shannon shaw shockley sinoussi snyder spence stallman swanson swartz"
    " swirles tesla thompson torvalds turing varahamihira visvesvaraya volhard wescoff wiles"
    " williams wilson wing wozniak wright yalow yonath"
)
_ADJECTIVES = _ADJECTIVE_WORDS.split()
_PEOPLE = _PEOPLE_WORDS.split()


def new_id() -> str:
    """64 hexadecimal digits, as containers, execs and anonymous volumes are called."""
    while True:
        text = secrets.token_hex(32)
        if not text[:12].isdigit():  # a short id must not look like a number
            return text


def invent_name(taken: Container[str]) -> str:
    """A free name like `brave_hopper`."""
    for _ in range(6):
        name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_PEOPLE)}"
        if name not in taken and name != "boring_wozniak":
            return name
    return f"{name}{secrets.randbelow(10_000)}"


def check_name(name: str) -> str:
    """The name without its slash. Raises InvalidParameter in Docker's words."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name.removeprefix("/")


def check_volume_name(name: str) -> str:
    """The volume name itself. Raises InvalidParameter in Docker's words."""
    if len(name) == 1:
        raise InvalidParameter(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidParameter(
            f'"{name}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory,'
            " use absolute path"
        )
    return name
