"""``python -m graphpred.cli …`` does what ``graphpred …`` does."""

from graphpred.cli.main import app

app()
