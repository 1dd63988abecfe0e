"""The engine of the RLHF Playground: models, sampling, rewards, algorithms, runs. It knows no user interface."""

import os

__version__ = "0.1.0"

# A torch thread that waits for another one spins (GNU OpenMP: some 300,000 rounds) before it sleeps. Where a browser or another run wants
# the same cores, it spins away the time that the other thread needs: one busy process beside a sampling on two cores made it 90 times
# slower, with 2,000 rounds 3 times, and just as fast as before on a quiet machine. Read once, when torch is loaded; other OpenMP libraries
# ignore it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
