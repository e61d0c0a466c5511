"""The autoencoder of architectures by the protocol of D-VAE, for 8 to 64 hidden neurons.

Trains it (or goes on from its checkpoint, or loads it), then measures on data sets and
architectures that training has not seen, always up to the order of hidden neurons:

- exact: share of architectures that come back, of 10 encodings and 10 decodings of each. The order
  of neurons, the identity codes and the company in which a graph is decoded change every time.
- valid, unique, new: of 10,000 draws from the prior, 1,000 for each of 10 data sets. New ones are
  not among the training architectures. ``live`` counts unique networks after neurons that do
  nothing, whose activation classes tell otherwise equal networks apart, are gone; ``sought`` does
  so for as many architectures of the kind that training sees. Since a decoding is a function of
  latents, data set and identity codes, decoding a draw ten times with the same codes gives ten
  times the same; ``again`` is the share of unique ones among 10,000 decodings of 1,000 draws of
  latents whose codes are drawn anew for every decoding.
- bits: that the latents of a neuron carry, with the embedding of the right data set and with that
  of another one.
- relevance: how far, in deviations, the features that neurons read are above the others in their
  relation to the neurons' outputs: of drawn networks, of networks drawn for another data set's
  embedding, and of the held-out architectures.

python benchmarks/autoencoder.py [--quick] [--steps N] [--model FILE] [--out FILE]
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.meta.autoencoder import (
    LATENT_SIZE,
    N_OWN,
    ArchitectureAutoencoder,
    draw_latents,
)
from graphpred.meta.autoencoder_training import (
    AutoencoderTrainer,
    AutoencoderTraining,
    latent_bits,
)
from graphpred.meta.encoders import Embedding
from graphpred.meta.graph_corpus import (
    CorpusConfig,
    GraphExample,
    draw_architecture,
    draw_corpus,
    input_relevance,
)
from graphpred.meta.ordered import draw_codes
from graphpred.seeds import generator_for

HERE = Path(__file__).parent
SIZES = (8, 16, 32, 64)
TRAINING_SEED, HELD_OUT_SEED = 0, 1
N_ENCODINGS = N_DECODINGS = 10

Group = Sequence[GraphExample]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Figures of one number of hidden neurons.

    Attributes:
        n_hidden: h.
        n_graphs: Held-out architectures that were reconstructed.
        exact: Share of their decodings that are the same.
        n_draws: From the prior.
        valid: Share of draws without a dead edge.
        unique: Share of different ones among the valid.
        unique_live: The same, of their live parts.
        unique_sought: The same, of as many architectures like those of training.
        unique_again: Of ten decodings of a tenth as many latents.
        new: Share of the valid that training has not seen.
        bits: Per neuron, of held-out architectures.
        bits_shuffled: With the embedding of another data set.
        relevance: Of drawn networks, networks drawn for another data set, held-out ones.
        narrowest: Least deviation of a latent over that of the prior.
        narrow: Share of latents of active neurons whose deviation is below 0.01 of the prior's.
    """

    n_hidden: int
    n_graphs: int
    exact: float
    n_draws: int
    valid: float
    unique: float
    unique_live: float
    unique_sought: float
    unique_again: float
    new: float
    bits: float
    bits_shuffled: float
    relevance: tuple[float, float, float]
    narrowest: float
    narrow: float


def trained(path: Path, *, steps: int, config: CorpusConfig) -> ArchitectureAutoencoder:
    """Load the autoencoder, or train it from its checkpoint, if there is one, and save it."""
    if path.exists():
        return ArchitectureAutoencoder.load(path)
    model = ArchitectureAutoencoder()
    draw = draw_corpus(config, describe=model.encoder.describe, seed=TRAINING_SEED)
    trainer = AutoencoderTrainer(
        model,
        groups=list(track(draw, "Drawing architectures", total=config.groups)),
        config=AutoencoderTraining(steps=steps),
        identity={"corpus": asdict(config), "seed": TRAINING_SEED},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".checkpoint")
    if checkpoint.exists():
        trainer.restore(checkpoint)
    left = trainer.config.steps - trainer.step
    bits = [r.bits for r in track(trainer.run(checkpoint=checkpoint), "Training", total=left)]
    model.card = {"steps": steps, "corpus": asdict(config), "bits": statistics.mean(bits[-200:])}
    model.save(path)
    checkpoint.unlink()
    return model


def live_part(z: Architecture) -> Architecture:
    """What is left without neurons that do nothing, in canonical order."""
    return z.without_dead_neurons()[0].canonical()[0]


@torch.no_grad()
def embedded(model: ArchitectureAutoencoder, group: Group) -> list[Embedding]:
    """Embeddings of the data sets of a group."""
    return list(model.encoder([example.description for example in group]))


def permuted(z: Architecture, *, generator: torch.Generator) -> Architecture:
    """The same network with its hidden neurons in another order."""
    n, h, _ = z.widths
    order = torch.arange(z.n_neurons)
    order[n : n + h] = n + torch.randperm(h, generator=generator)
    return z.permuted(order)


def reconstructed(
    model: ArchitectureAutoencoder, group: Group, *, generator: torch.Generator
) -> tuple[float, Tensor]:
    """Share of exact reconstructions; deviations of active neurons' latents over the prior's."""
    n, _, c = group[0].architecture.widths
    embeddings, n_same = embedded(model, group), 0
    deviations = []
    for _ in range(N_ENCODINGS):
        wanted = [permuted(example.architecture, generator=generator) for example in group]
        codes = [draw_codes(n, c, generator=generator) for _ in group]
        posterior = model.encode(wanted, embeddings=embeddings, codes=codes)
        latents = posterior.sample(generator=generator)
        relative = posterior.deviation[:, :, :N_OWN] * 12**0.5
        deviations.append(relative[(relative < 0.9).any(dim=2)].flatten())
        for _ in range(N_DECODINGS):
            order = torch.randperm(len(group), generator=generator)
            found = model.decode(
                latents[order],
                embeddings=[embeddings[i] for i in order],
                codes=[codes[i] for i in order],
            )
            n_same += sum(same(wanted[i], z) for i, z in zip(order, found, strict=True))
    return n_same / (N_ENCODINGS * N_DECODINGS * len(group)), torch.cat(deviations)


def same(z: Architecture, other: Architecture) -> bool:
    """Whether two networks differ at most in the order of hidden neurons."""
    return z == other or z.canonical()[0] == other.canonical()[0]


def decoded_again(
    model: ArchitectureAutoencoder, embedding: Embedding, *, n_hidden: int, n_latents: int,
    generator: torch.Generator,
) -> float:  # fmt: skip
    """Share of unique ones among ten decodings of latents, whose codes are drawn anew."""
    n, c = len(embedding.features), len(embedding.outputs)
    latents = draw_latents(n_latents, n_hidden=n_hidden, generator=generator)
    found = [
        z.canonical()[0]
        for _ in range(N_DECODINGS)
        for z in model.decode(
            latents,
            embeddings=[embedding] * n_latents,
            codes=[draw_codes(n, c, generator=generator) for _ in range(n_latents)],
        )
    ]
    return len(set(found)) / len(found)


def prior_shares(
    model: ArchitectureAutoencoder, groups: Sequence[Group], *, n_draws: int,
    known: set[Architecture], generator: torch.Generator,
) -> dict[str, float]:  # fmt: skip
    """Validity, uniqueness and novelty of draws for the first data set of every group."""
    shares: dict[str, list[float]] = defaultdict(list)
    n_some = n_draws // len(groups)
    for group in groups:
        example, (embedding,) = group[0], embedded(model, group[:1])
        n_hidden = example.architecture.widths[1]
        drawn = model.draw(n_some, embedding=embedding, n_hidden=n_hidden, generator=generator)
        valid = [z for z in drawn if z.n_edges and z.n_live_edges == z.n_edges]
        live = [live_part(z) for z in valid]
        sought = {
            live_part(
                draw_architecture(
                    example.strength, n_hidden, config=CorpusConfig(), generator=generator
                )
            )
            for _ in drawn
        }
        shares["valid"].append(len(valid) / n_some)
        shares["unique"].append(len({z.canonical()[0] for z in valid}) / len(valid))
        shares["unique_live"].append(len(set(live)) / len(valid))
        shares["unique_sought"].append(len(sought) / n_some)
        shares["new"].append(sum(z not in known for z in live) / len(valid))
        again = decoded_again(
            model, embedding, n_hidden=n_hidden, n_latents=n_some // N_DECODINGS,
            generator=generator,
        )  # fmt: skip
        shares["unique_again"].append(again)
    return {name: statistics.mean(values) for name, values in shares.items()}


@torch.no_grad()
def bits(model: ArchitectureAutoencoder, groups: Sequence[Group], *, shuffled: bool) -> float:
    """Bits per neuron of held-out architectures."""
    found = [
        latent_bits(
            model,
            others(group) if shuffled else group,
            generator=generator_for("codes", i),
        ).mean()
        for i, group in enumerate(groups)
        if len({id(example.description) for example in group}) > 1
    ]
    return float(torch.stack(found).mean())


def others(group: Group) -> list[GraphExample]:
    """Every example with the description of the next data set of its group."""
    descriptions = {id(example.description): example.description for example in group}
    keys = list(descriptions)
    following = dict(zip(keys, keys[1:] + keys[:1], strict=True))
    return [
        GraphExample(
            description=descriptions[following[id(example.description)]],
            strength=example.strength,
            architecture=example.architecture,
        )
        for example in group
    ]


def relevances(
    model: ArchitectureAutoencoder, groups: Sequence[Group], *, generator: torch.Generator
) -> tuple[float, float, float]:
    """Mean relevance of drawn, drawn for another data set, and held-out architectures."""
    means = []
    for group in groups:
        if len({id(example.description) for example in group}) < 2:
            continue
        n, h, c = group[0].architecture.widths
        latents = draw_latents(len(group), n_hidden=h, generator=generator)
        codes = [draw_codes(n, c, generator=generator) for _ in group]
        lists = [
            model.decode(latents, embeddings=embedded(model, some), codes=codes)
            for some in (group, others(group))
        ]
        lists.append([example.architecture for example in group])
        means.append([mean_relevance(some, group) for some in lists])
    right, wrong, held_out = torch.tensor(means).mean(dim=0).tolist()
    return right, wrong, held_out


def mean_relevance(architectures: Iterable[Architecture], group: Group) -> float:
    """Of all edges from features, over architectures for the data sets of a group."""
    found = [
        input_relevance(z, strength=example.strength)
        for z, example in zip(architectures, group, strict=True)
    ]
    return statistics.mean(found)


def measure(
    model: ArchitectureAutoencoder, n_hidden: int, *, known: set[Architecture], quick: bool
) -> Result:
    """All figures at one number of hidden neurons."""
    config = CorpusConfig(groups=4 if quick else 12, hidden=(n_hidden, n_hidden))
    groups = list(draw_corpus(config, describe=model.encoder.describe, seed=HELD_OUT_SEED))
    n_draws = 400 if quick else 10_000
    generator = generator_for(HELD_OUT_SEED, "measure", n_hidden)
    few = [group[:: 4 if quick else 2] for group in groups]
    found = [reconstructed(model, group, generator=generator) for group in few]
    deviations = torch.cat([deviation for _, deviation in found])
    n_graphs = sum(map(len, few))
    shares = prior_shares(
        model, groups[: 4 if quick else 10], n_draws=n_draws, known=known, generator=generator
    )
    return Result(
        n_hidden=n_hidden,
        n_graphs=n_graphs,
        exact=sum(share * len(group) for (share, _), group in zip(found, few, strict=True))
        / n_graphs,
        n_draws=n_draws,
        bits=bits(model, groups, shuffled=False),
        bits_shuffled=bits(model, groups, shuffled=True),
        relevance=relevances(model, groups, generator=generator),
        narrowest=float(deviations.min()),
        narrow=float((deviations < 0.01).double().mean()),
        **shares,
    )


def show(results: list[Result], *, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Autoencoder of architectures, {LATENT_SIZE} latents a neuron")
    headings = (
        "neurons",
        "exact",
        "valid",
        "unique",
        "new",
        "live",
        "sought",
        "again",
        "bits",
        "relevance",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for r in results:
        shares = (r.exact, r.valid, r.unique, r.new, r.unique_live, r.unique_sought, r.unique_again)
        percent = (f"{100 * share:.2f}" for share in shares)
        relevance = " / ".join(f"{value:.2f}" for value in r.relevance)
        table.add_row(str(r.n_hidden), *percent, f"{r.bits:.1f} / {r.bits_shuffled:.1f}", relevance)
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training, few graphs")
    parser.add_argument("--steps", type=int, help="optimiser steps")
    parser.add_argument("--model", type=Path, help="file that is loaded, or trained and written")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    quick = arguments.quick
    suffix = "_quick" if quick else ""
    torch.set_num_threads(1)
    config = CorpusConfig(groups=40 if quick else 400)
    path = arguments.model or HERE / "cache" / f"autoencoder{suffix}.safetensors"
    model = trained(path, steps=arguments.steps or (200 if quick else 5000), config=config)
    corpus = draw_corpus(config, describe=lambda _: None, seed=TRAINING_SEED)
    known = {
        live_part(example.architecture)
        for group in track(corpus, "Drawing them again", total=config.groups)
        for example in group
    }
    results = [
        measure(model, n_hidden, known=known, quick=quick) for n_hidden in track(SIZES, "Measuring")
    ]
    show(results, console=Console(width=WIDTH))
    default = HERE / "results" / f"autoencoder{suffix}.json"
    report = {"model": model.card, "results": [asdict(result) for result in results]}
    write_report(arguments.out or default, report)


if __name__ == "__main__":
    main()
