"""Suggestions by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), told what the ledger says.

A study is made anew for every suggestion: it depends on the ledger and the seed alone, so a search that was
killed goes on with the suggestions it would have made.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

from penstock.data.order import key
from penstock.errors import PenstockError
from penstock.tuning.ledger import Trial, best_value, worth
from penstock.tuning.space import Settings, Space, sample
from penstock.workload import Choice, Goal, Span


def demand_optuna() -> None:
    """PenstockError when it is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise PenstockError(
            "--searcher optuna needs Optuna, which is not here: pip install 'penstock[search]'"
        )


def suggest(space: Space, seed: int, number: int, trials: Mapping[int, Trial], goal: Goal) -> Settings:
    """Suggestion `number`: by the trials with a result; at random while these are few.

    Trials that were stopped early are not compared with longer ones at their end: of the numbers of
    validations that enough trials have, the largest one counts (Falkner et al. 2018, BOHB, section 3.2).
    """
    known = observations(trials, goal, enough=len(space) + 2)
    if not known:
        return sample(space, seed, number)
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental arguments say so on each use
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        state = int(key("optuna", seed, number)[0] % 2**32)
        sampler = optuna.samplers.TPESampler(seed=state, n_startup_trials=0, multivariate=True)
        study = optuna.create_study(direction=f"{goal.mode}imize", sampler=sampler)
        axes = {name: _axis(space[name]) for name in sorted(space)}
        for trial, value in known:
            parameters = {name: _encoded(space[name], trial.settings[name]) for name in axes}
            study.add_trial(optuna.trial.create_trial(params=parameters, distributions=axes, value=value))
        asked = study.ask(axes)
    return {name: _decoded(space[name], asked.params[name]) for name in axes}


def observations(trials: Mapping[int, Trial], goal: Goal, enough: int) -> list[tuple[Trial, float]]:
    """(trial, best value up to the same number of validations) of at least `enough` trials, or none;
    with them those that failed, as bad as the worst."""
    able = [trial for _, trial in sorted(trials.items()) if trial.values and not trial.failed]
    for reached in sorted({trial.reached for trial in able}, reverse=True):
        found = [(one, best_value(one.values[:reached], goal)) for one in able if one.has(reached)]
        found = [(one, value) for one, value in found if value == value]
        if len(found) >= enough:
            # a place where trials fail would else look like one where nobody has been
            worst = min((value for _, value in found), key=lambda value: worth(value, goal))
            return found + [(one, worst) for _, one in sorted(trials.items()) if one.failed]
    return []


def _axis(dimension: Span | Choice) -> Any:
    import optuna.distributions as kinds

    if isinstance(dimension, Choice):
        return kinds.CategoricalDistribution(range(len(dimension.options)))  # any JSON value may be an option
    if dimension.integer:
        return kinds.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return kinds.FloatDistribution(float(dimension.low), float(dimension.high), log=dimension.log)


def _encoded(dimension: Span | Choice, value: Any) -> Any:
    return dimension.options.index(value) if isinstance(dimension, Choice) else value


def _decoded(dimension: Span | Choice, value: Any) -> Any:
    return dimension.options[value] if isinstance(dimension, Choice) else value
