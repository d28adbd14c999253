"""Steps of a bare loop over a DataLoader with shuffle, for the cost of its index alone.

python loader_index.py REPORT OUTPUTS NUM_SAMPLES AT…
"""

import sys

import torch
from torch.utils.data import DataLoader
from workloads.index import IndexedPoints
from workloads.marks import Marks
from workloads.perceptron import Perceptron, points


def main(report: str, num_samples: int, at: list[int]) -> None:
    torch.set_num_threads(1)
    model = Perceptron()
    loader = DataLoader(IndexedPoints(points()["train"], num_samples), batch_size=8, shuffle=True)  # type: ignore[arg-type, var-annotated]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    marks = Marks(report, at)
    for step, batch in enumerate(loader, 1):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        marks.step_done(step)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[3]), [int(step) for step in sys.argv[4:]])
