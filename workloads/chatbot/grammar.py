"""The grammar of the synthetic source: how each intent asks, and what is right to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from workloads.chatbot.data import Turn

SIZES = {"small": 0, "medium": 1, "large": 2}  # coins more
DRINKS = {"tea": 2, "latte": 4, "mocha": 5, "espresso": 3, "cocoa": 4, "cortado": 3, "chai": 3, "lemonade": 2}
MILKS = ("oat", "soy", "almond", "whole", "coconut")
COLOURS = ("red", "green", "blue", "white", "yellow", "violet")
ROOMS = ("kitchen", "hall", "bedroom", "attic", "cellar", "library", "garage", "study")
TOWNS = {"Aldmoor": 1, "Brexley": 2, "Corvale": 3, "Dunwick": 1, "Eastrey": 2, "Fernhill": 4, "Gosford": 3}
TOWNS |= {"Harrow": 4, "Ingleby": 1, "Jarrow": 2, "Kelham": 3, "Lindale": 4}  # town -> its line
OPPOSITES = {"hot": "cold", "big": "little", "early": "late", "loud": "quiet", "wet": "dry", "old": "new"}
OPPOSITES |= {"fast": "slow", "light": "dark", "hard": "soft", "full": "empty", "rich": "poor"}
OPPOSITES |= {answer: word for word, answer in OPPOSITES.items()}
NAMES = (
    "Ada",
    "Boris",
    "Chloe",
    "Dario",
    "Edith",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Keiko",
    "Lena",
)
LIKES = ("chess", "jazz", "tennis", "poetry", "cycling", "baking", "sailing", "pottery", "opera", "hiking")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PEOPLE = ("two", "three", "four", "five", "six", "seven", "eight")
HOURS = ("noon", "one", "two", "six", "seven", "eight", "nine")
PLEASE = ("", "", "Please ", "Hi, ", "Could you ", "Now ")


class Said(NamedTuple):
    """A dialogue: what decides its side of the split, its messages and replies in turn, and the right replies
    to each of the user's messages (the first one is said)."""

    combination: str
    messages: Sequence[Turn]
    accepted: Sequence[Sequence[str]]


Pick = Callable[[Sequence[str] | Mapping[str, object]], str]


def asked(text: str, *accepted: str) -> Said:
    """A dialogue of one question."""
    return Said("", [Turn("user", text)], [accepted])


def greeting(pick: Pick) -> Said:
    word = pick(("Hello", "Hi", "Good morning", "Good evening", "Hey there", "Greetings"))
    return asked(
        word + pick(("", "!", ".", " you", ", friend")), "Hello! What can I do for you?", "Hi there!"
    )


def farewell(pick: Pick) -> Said:
    word = pick(("Thanks", "Thank you", "Bye", "Goodbye", "That was all", "See you"))
    return asked(
        word + pick(("", "!", ".", " then", ", friend")), "You are welcome. Goodbye!", "Until next time!"
    )


def order(pick: Pick) -> Said:
    size, drink, milk = pick(SIZES), pick(DRINKS), pick(MILKS)
    ask = pick(("I would like a", "Could I get a", "Give me one", "Make it a", "A"))
    text = pick((f"{ask} {size} {drink} with {milk} milk", f"{ask} {drink} with {milk} milk, {size}"))
    coins = SIZES[size] + DRINKS[drink]
    return asked(
        text + pick(("", ".", " please", "!")), f"One {size} {drink} with {milk} milk: {coins} coins."
    )


def lamp(pick: Pick) -> Said:
    colour, room, state = pick(COLOURS), pick(ROOMS), pick(("on", "off"))
    text = pick(
        (f"turn {state} the {colour} lamp in the {room}", f"switch the {room}'s {colour} lamp {state}")
    )
    return asked(pick(PLEASE) + text, f"The {colour} lamp in the {room} is {state}.")


def route(pick: Pick) -> Said:
    start = pick(TOWNS)
    goal = pick([town for town in TOWNS if town != start])
    text = pick((f"from {start} to {goal}", f"to {goal} from {start}"))
    ask = pick(("How do I get ", "Which line goes ", "I want to go ", "Tell me the way "))
    if TOWNS[start] == TOWNS[goal]:
        return asked(ask + text, f"From {start} take line {TOWNS[start]} to {goal}.")
    return asked(ask + text, f"From {start} take line {TOWNS[start]}, then line {TOWNS[goal]} to {goal}.")


def opposite(pick: Pick) -> Said:
    first, second = pick(OPPOSITES), pick(OPPOSITES)
    ask = pick(("What is the opposite of", "Opposites of", "Tell me the opposite of"))
    return asked(f"{ask} {first} and {second}", f"{OPPOSITES[first]} and {OPPOSITES[second]}")


def booking(pick: Pick) -> Said:
    people, day, hour, name = pick(PEOPLE), pick(DAYS), pick(HOURS), pick(NAMES)
    ask = pick(("Book a table", "I need a table", "Reserve a table", "A table"))
    text = pick((f"for {people} on {day} at {hour}", f"on {day} at {hour} for {people}"))
    return asked(f"{ask} {text}, my name is {name}", f"{name}, a table for {people} on {day} at {hour}.")


def recall(pick: Pick) -> Said:
    name, likes = pick(NAMES), pick(LIKES)
    told = pick((f"I am {name} and I like {likes}", f"My name is {name}, I love {likes}"))
    met = f"Nice to meet you, {name}."
    question, answer = pick(("Who am I?", "What do I like?", "What do you know about me?")), ""
    if question.startswith("Who"):
        answer = f"You are {name}."
    elif question.startswith("What do I"):
        answer = f"You like {likes}, {name}."
    else:
        answer = f"You are {name}, and you like {likes}."
    turns = [Turn("user", told), Turn("assistant", met), Turn("user", question)]
    return Said("", turns, [[met], [answer]])


INTENTS: Mapping[str, Callable[[Pick], Said]] = {
    "booking": booking,
    "farewell": farewell,
    "greeting": greeting,
    "lamp": lamp,
    "opposite": opposite,
    "order": order,
    "recall": recall,
    "route": route,
}


def say(number: int) -> tuple[str, Said]:
    """(intent, dialogue number so-and-so), the same everywhere."""
    random = np.random.Generator(np.random.Philox(key=(23, number)))

    def pick(options: Sequence[str] | Mapping[str, object]) -> str:
        return list(options)[int(random.integers(len(options)))]

    intent = list(INTENTS)[number % len(INTENTS)]
    said = INTENTS[intent](pick)
    # what is asked for, not how: the right answers decide
    return intent, said._replace(combination=f"{intent}: {said.accepted[-1][0]}")
