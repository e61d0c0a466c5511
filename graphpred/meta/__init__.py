"""The meta-model: from a data set to a distribution over architectures, and weights."""
