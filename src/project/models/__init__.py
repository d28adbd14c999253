"""Models: `torch.nn.Module`s."""
