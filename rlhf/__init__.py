"""The engine of the RLHF Playground: models, sampling, rewards, algorithms, runs. It knows no user interface."""

__version__ = "0.1.0"
