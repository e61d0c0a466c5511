"""What activation classes are worth, learned from what their neurons are used for."""

from dataclasses import replace

import torch
from test_relaxed import NAMES, decoded_networks
from toys import seeded, toy_model, toy_task

from graphpred.meta.model import draw_latents
from graphpred.meta.relaxed import usage_loss


def used_as(decoded, *, use):
    """The same with a last layer of the given sizes, every neuron with a live edge into it."""
    n, h, c = decoded.sizes
    use = torch.tensor(use)[None, :, None].expand(1, h, c)
    certain = torch.full((1, n, h), 5.0)
    return replace(
        decoded,
        hidden=certain,
        output=torch.full((1, h, c), 5.0),
        weights=(certain, use),
        deviation=torch.ones(1, h),
    )


def test_usage_favours_the_class_whose_neurons_are_used():
    logits = torch.zeros(1, 4, len(NAMES), requires_grad=True)
    decoded = decoded_networks(1, (3, 4, 2))
    decoded = replace(
        decoded,
        activation=logits.log_softmax(dim=2),
        choice=torch.tensor([[0, 1, 0, 1]]),
    )

    usage_loss(used_as(decoded, use=[2.0, 0.5, 2.0, 0.5])).sum().backward()

    pull = -logits.grad.sum(dim=1)[0]  # what a step down the gradient adds
    assert pull[0] > 0
    assert pull[0] > pull[1] > pull[2]


def test_usage_does_not_favour_a_class_for_its_number():
    """With the shares at which classes are drawn, equal use of all neurons pulls nowhere."""
    share = torch.tensor([0.5, 0.25, 0.25])
    logits = share.log().expand(1, 4, 3).clone().requires_grad_()
    decoded = replace(
        decoded_networks(1, (3, 4, 2)),
        activation=logits.log_softmax(dim=2),
        choice=torch.tensor([[0, 0, 1, 2]]),
    )

    usage_loss(used_as(decoded, use=[1.0] * 4)).sum().backward()

    pull = -logits.grad.sum(dim=1)[0]
    assert pull[0] < 0 < pull[1]  # towards even shares
    torch.testing.assert_close(pull[1], pull[2])


def test_neurons_without_use_say_nothing_of_classes():
    decoded = decoded_networks(1, (3, 4, 2))

    changed = decoded.activation.clone()
    changed[:, 1] = torch.tensor([5.0, 0.0, -5.0]).log_softmax(dim=0)
    losses = [
        usage_loss(used_as(replace(decoded, activation=activation), use=[1.0, 0.0, 1.0, 1.0]))
        for activation in (decoded.activation, changed)
    ]

    torch.testing.assert_close(*losses)


def test_usage_has_no_gradient_but_that_of_the_classes():
    leaves = decoded_networks(2, (4, 5, 3), requires_grad=True)

    usage_loss(leaves).sum().backward()

    others = (leaves.hidden, leaves.output, leaves.deviation, *leaves.biases)
    assert all(leaf.grad is None for leaf in others if leaf.is_leaf)


def test_usage_teaches_the_head_of_activations_alone():
    model = toy_model()

    decoded = model(
        [model.describe(toy_task())],
        prices=torch.tensor([0.01]),
        latents=[draw_latents(6, generator=seeded())],
    )[-1]
    usage_loss(decoded).sum().backward()

    taught = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    head = "decoder.drafter.activation"
    assert taught == {f"{head}.weight", f"{head}.bias"}
