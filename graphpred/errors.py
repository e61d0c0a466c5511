"""Every deliberate error of graphpred, under one base class.

A message says what must hold and what came instead. Catch ``GraphPredError`` to catch them all.
"""


class GraphPredError(Exception):
    """Base class: catch it to catch every deliberate graphpred error."""


class InputError(GraphPredError, ValueError):
    """An argument has a wrong shape, type or value."""


class ArchitectureError(GraphPredError, ValueError):
    """An architecture breaks an invariant of the typed DAG."""


class DataError(GraphPredError, ValueError):
    """A table, or what is read from it, cannot be used."""


class StoreError(GraphPredError, ValueError):
    """A file or folder that graphpred wrote, or is asked to write, cannot be used."""


class EngineError(GraphPredError, RuntimeError):
    """Workers cannot be started or reached, or were lost for good."""


class ModelError(GraphPredError, ValueError):
    """A meta-model cannot be loaded or does not fit what it is asked to do."""
