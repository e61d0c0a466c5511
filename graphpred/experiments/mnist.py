"""The paper's setting on images: pairs from subsamples of one set, and a network for all of it.

Small images (means of squares of pixels) are searched: random search at fixed densities on a few
hundred of them at a time. A meta-model is trained on the pairs, from the packaged one and from
fresh parameters, and predicts a network for the whole set, at the size of the pairs and at full
size, since the decoder takes any number of inputs. Rivals have the same K* and training steps, and
searchers of the small images the same evaluations. Then the same for tables: does training on a
set's own pairs beat the packaged model unchanged?

Without data, the digits that scikit-learn ships stand in for MNIST.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

from rich.table import Table

from graphpred.experiments.curves import curves_svg
from graphpred.experiments.image_searches import searched
from graphpred.experiments.images import Images
from graphpred.experiments.mnist_tables import (
    DEFAULT,
    OWN,
    PACKAGED,
    SCRATCH,
    edges_curves,
    edges_table,
    full_table,
    gain_table,
    image_gains,
    method_table,
)
from graphpred.experiments.own_model import OWN_RATE, GainConfig, gains, own_pairs, trained_model
from graphpred.experiments.parts import kept, write_json
from graphpred.experiments.whole_set import DENSE, Contest, compete, dense
from graphpred.files import make_folder, whole_file
from graphpred.meta.model import MetaModel
from graphpred.pairs.config import GenerateConfig
from graphpred.pairs.pair import Pair
from graphpred.space import SearchSpace
from graphpred.task import Task

FIGURES, PICTURE = "mnist.json", "edges-accuracy.svg"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is done.

    Attributes:
        side: Pixels a side of the images that are searched.
        n_hidden: Width of their networks' hidden layer.
        searches: Subsamples searched.
        rows: Images of a subsample.
        evaluations: Budget of a search.
        training_steps: Of a meta-model.
        seeds: Of subsamples, searches, training, latents and draws.
        training_rate: Its learning rate.
        more_seeds: Those of ``seeds`` for which a model is trained from fresh parameters too, and
            one at the default rate.
        kappas: Budgets K* = κ·(n + c) at the size of the pairs.
        steps: Of a network.
        n_candidates: Live random networks, and searched ones at most.
        searchers: Keys of ``SEARCHERS`` that search the small images.
        search_evaluations: Budget of each.
        search_kappas: Those of ``kappas`` at which they do.
        full_hidden: Width of the hidden layer at full size.
        full_densities: Budgets there, as shares of the possible edges.
        full_candidates: Like ``n_candidates``, there.
        tables: The same question for tables.
    """

    side: int = 7
    n_hidden: int = 24
    searches: int = 32
    rows: int = 400
    evaluations: int = 100
    training_steps: int = 120
    training_rate: float = OWN_RATE
    seeds: tuple[int, ...] = (2, 3, 4)
    more_seeds: tuple[int, ...] = (2,)
    kappas: tuple[float, ...] = (0.5, 1, 2, 4, 8)
    steps: int = 300
    n_candidates: int = 10
    searchers: tuple[str, ...] = (
        "random",
        "random_live",
        "adanet",
        "reinforce",
        "q_learning",
        "magnitude_pruning",
        "gradual_pruning",
        "meta_model",
    )
    search_evaluations: int = 100
    search_kappas: tuple[float, ...] = (1, 2, 4)
    full_hidden: int = 300
    full_densities: tuple[float, ...] = (0.005, 0.05)
    full_candidates: int = 3
    tables: GainConfig = field(default_factory=GainConfig)


QUICK = Settings(
    side=4,
    n_hidden=8,
    searches=4,
    rows=120,
    evaluations=20,
    training_steps=2,
    seeds=(1,),
    more_seeds=(1,),
    kappas=(1, 3),
    steps=60,
    n_candidates=4,
    searchers=("random_live", "adanet", "q_learning"),
    search_evaluations=10,
    search_kappas=(3,),
    full_hidden=16,
    full_densities=(0.1,),
    full_candidates=2,
    tables=GainConfig(
        sets=("diabetes",),
        seeds=(1,),
        latents=1,
        searches=3,
        training_steps=2,
        kappas=(2,),
        steps=60,
    ),
)


def run(*, data: Path | None, quick: bool, out: Path) -> list[Table]:
    """Do the experiment, or what is missing of it.

    Args:
        data: An ``.npz`` file of images, see ``Images.read``; scikit-learn's digits without it.
        quick: A small form.
        out: Folder of the figures, the picture and the parts that are kept.

    Returns:
        Methods at one budget, K* against accuracy, searchers at equal evaluations, full size, and
        the gain of training on a set's own pairs.
    """
    images = Images.digits() if data is None else Images.read(data)
    settings = QUICK if quick else Settings()
    described = {"settings": asdict(settings), "data": images.name}
    folder = out / f"parts-{hashlib.sha256(repr(described).encode()).hexdigest()[:8]}"
    make_folder(folder)
    small, searches, full = (
        part(images, settings, folder=folder) for part in (_small_cells, _search_cells, _full_cells)
    )
    cells = gains(settings.tables, folder=folder / "tables")
    parts = {"small": small, "searches": searches, "full": full, "tables": cells}
    write_json(out / FIGURES, described | parts)
    picture = curves_svg(
        edges_curves(small),
        x_name=f"live edges K*, {settings.side} x {settings.side} images",
        y_name="test accuracy, %",
    )
    with whole_file(out / PICTURE) as temporary:
        temporary.write_text(picture, encoding="utf-8")
    return [
        method_table(small, title=f"{settings.side} x {settings.side}"),
        edges_table(small, title="Largest K* against test accuracy, %"),
        edges_table(
            searches,
            title=f"Searchers, {settings.search_evaluations} evaluations: test accuracy, %",
        ),
        full_table(full, title=f"{images.side} x {images.side}"),
        gain_table([*cells, *image_gains(small)]),
    ]


def _small_cells(images: Images, settings: Settings, *, folder: Path) -> list[dict[str, Any]]:
    """Cells at the size of the pairs: seed, budget and the figures of all methods."""
    own = _OwnModels(images, settings, folder=folder)

    def cell(seed: int, kappa: float) -> dict[str, Any]:
        n_edges = _edges_allowed(own.small, kappa=kappa)
        contest = Contest(
            task=own.small,
            n_hidden=settings.n_hidden,
            n_edges=n_edges,
            steps=settings.steps,
            n_candidates=settings.n_candidates,
            seed=seed,
        )
        everything = kept(folder / f"small-{seed}-dense.json", lambda: {DENSE: dense(contest)})
        models = own.models(seed) | own.more_models(seed)
        methods = compete(contest, models=models, pairs=own.pairs(seed)) | everything
        return {"seed": seed, "kappa": kappa, "n_edges": n_edges, "methods": methods}

    return [
        kept(folder / f"small-{seed}-{kappa:g}.json", partial(cell, seed, kappa))
        for seed in settings.seeds
        for kappa in settings.kappas
    ]


def _search_cells(images: Images, settings: Settings, *, folder: Path) -> list[dict[str, Any]]:
    """Cells at the size of the pairs: seed, budget and what every searcher found."""
    task = images.pooled(settings.side).task()
    widths = (task.n_features, settings.n_hidden, task.n_outputs)
    n_possible = SearchSpace(widths=widths).n_possible_edges

    def found(seed: int, n_edges: int, name: str) -> dict[str, Any]:
        return searched(
            task,
            space=SearchSpace(widths=widths, density=n_edges / n_possible),
            searcher=name,
            evaluations=settings.search_evaluations,
            seed=seed,
        )

    cells = []
    for seed, kappa in product(settings.seeds, settings.search_kappas):
        n_edges = _edges_allowed(task, kappa=kappa)
        methods = {
            name: kept(
                folder / f"search-{seed}-{kappa:g}-{name}.json", partial(found, seed, n_edges, name)
            )
            for name in settings.searchers
        }
        cells.append({"seed": seed, "kappa": kappa, "n_edges": n_edges, "methods": methods})
    return cells


def _edges_allowed(task: Task, *, kappa: float) -> int:
    return int(kappa * (task.n_features + task.n_outputs))


def _full_cells(images: Images, settings: Settings, *, folder: Path) -> list[dict[str, Any]]:
    """Cells at full size, with the models of the small pairs of the first seed."""
    own, seed = _OwnModels(images, settings, folder=folder), settings.seeds[0]

    def cell(density: float) -> dict[str, Any]:
        n_possible = settings.full_hidden * (own.full.n_features + own.full.n_outputs)
        n_edges = int(density * n_possible)
        contest = Contest(
            task=own.full,
            n_hidden=settings.full_hidden,
            n_edges=n_edges,
            steps=settings.steps,
            n_candidates=settings.full_candidates,
            seed=seed,
        )
        everything = kept(folder / "full-dense.json", lambda: {DENSE: dense(contest)})
        methods = compete(contest, models=own.models(seed)) | everything
        return {"seed": seed, "density": density, "n_edges": n_edges, "methods": methods}

    return [
        kept(folder / f"full-{density:g}.json", partial(cell, density))
        for density in settings.full_densities
    ]


class _OwnModels:
    """The whole set, and what is made from subsamples of it; nothing before it is asked for.

    Args:
        images: At full size.
        settings: What is done.
        folder: Keeps pairs and models.
    """

    def __init__(self, images: Images, settings: Settings, *, folder: Path) -> None:
        self._images, self._settings, self._folder = images, settings, folder

    @cached_property
    def full(self) -> Task:
        """All images."""
        return self._images.task()

    @cached_property
    def small(self) -> Task:
        """All images at the size of the pairs."""
        return self._images.pooled(self._settings.side).task()

    def pairs(self, seed: int) -> list[Pair]:
        """Pairs of subsamples of the small images' training part."""
        source, settings = self._folder / "training.npz", self._settings
        if not source.exists():
            self._images.pooled(settings.side).write_training(source)
        config = GenerateConfig(
            n_searches=settings.searches,
            rows=settings.rows,
            evaluations=settings.evaluations,
            n_hidden=settings.n_hidden,
            seed=seed,
        )
        return own_pairs(source, out=self._folder / f"pairs-{seed}", config=config)

    def models(self, seed: int) -> dict[str, MetaModel]:
        """The packaged model, and one trained on the pairs of a seed."""
        rate = self._settings.training_rate
        return {PACKAGED: MetaModel.load(), OWN: self._trained("own", seed, rate=rate)}

    def more_models(self, seed: int) -> dict[str, MetaModel]:
        """Those that are trained otherwise, if the seed is one of those for it."""
        if seed not in self._settings.more_seeds:
            return {}
        rate = self._settings.training_rate
        return {
            SCRATCH: self._trained("scratch", seed, rate=rate, from_packaged=False),
            DEFAULT: self._trained("default", seed, rate=None),
        }

    def _trained(
        self, name: str, seed: int, *, rate: float | None, from_packaged: bool = True
    ) -> MetaModel:
        self.pairs(seed)
        return trained_model(
            self._folder / f"pairs-{seed}",
            out=self._folder / f"{name}-{seed}.safetensors",
            steps=self._settings.training_steps,
            seed=seed,
            rate=rate,
            from_packaged=from_packaged,
        )
