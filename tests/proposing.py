"""Proposing searchers without training: made-up trials, and tasks of one family."""

import math

import torch
from search_conformance import tiny_task

from graphpred.objective import Objective
from graphpred.searchers import Ledger, Setting, Trial, search
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.synthetic.prior import PriorConfig, draw_tasks
from graphpred.weights import initial_weights


def setting_for(space, *, evaluations=100, densities=None, seed=0):
    """What a searcher is given; the task is there to be ignored."""
    return Setting(
        task=tiny_task(),
        space=space,
        objective=Objective(),
        densities=densities or (space.density,),
        steps=100,
        generator=generator_for("proposing", seed),
        seed=seed,
        ledger=Ledger(evaluations=evaluations),
    )


def made_up(architecture, objective, *, number=0):
    """A trial that nobody ran."""
    return Trial(
        number=number,
        architecture=architecture,
        weights=initial_weights(architecture, seed=0),
        train_loss=objective,
        loss=objective,
        objective=objective,
        steps=100,
        seed=0,
    )


def ask_and_tell(searcher, value, *, n):
    """Objectives and architectures of n made-up trials."""
    trials = []
    while len(trials) < n:
        proposals = searcher.ask(n - len(trials))
        if not proposals:
            break
        told = [
            made_up(p.architecture, value(p.architecture), number=len(trials) + i)
            for i, p in enumerate(proposals)
        ]
        searcher.tell(told)
        trials += told
    return trials


def family_tasks(family, k, *, seed, **config):
    """Data sets of one family of the prior."""
    settings = {
        "features": (8, 8),
        "classes": (2, 2),
        "train_rows": (150, 150),
        "validation_rows": 200,
        "regression_share": 0.0,
        "noise": 0.1,
        "label_noise": 0.0,
        "imbalance": 0.3,
        "missing": 0.0,
    }
    config = PriorConfig(families=(family,), **settings | config)
    return draw_tasks(k, generator=torch.Generator().manual_seed(seed), config=config, group=k)


def log_ratios(searcher, tasks, *, evaluations):
    """Log of the least log loss, less that of live random search at equal evaluations."""
    ratios = []
    for number, task in enumerate(tasks):
        space = SearchSpace(widths=(task.n_features, 10, task.n_outputs), density=0.25)
        own, others = (
            min(
                trial.objective
                for trial in search(
                    task,
                    space,
                    searcher=name,
                    objective=Objective(loss="log_loss"),
                    evaluations=evaluations,
                    seed=number,
                )
            )
            for name in (searcher, "random_live")
        )
        ratios.append(math.log(own / others))
    return ratios
