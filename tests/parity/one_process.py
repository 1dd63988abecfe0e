"""The few things of an accelerator that TRL's losses ask for, on one process."""

import torch


class OneProcess:
    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def reduce(self, tensor, reduction="sum"):
        return tensor

    def gather(self, tensor):
        return tensor

    gather_for_metrics = gather

    def pad_across_processes(self, tensor, **_):
        return tensor
