"""Files too large for memory, read in batches."""

from graphpred.streaming.passes import STREAM_VALUES, Streamed, is_large, stream_task

__all__ = ["STREAM_VALUES", "Streamed", "is_large", "stream_task"]
