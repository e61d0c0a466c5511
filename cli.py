"""Run graphpred from a checkout: ``python cli.py …`` does what ``graphpred …`` does."""

from graphpred.cli.main import app

if __name__ == "__main__":
    app()
