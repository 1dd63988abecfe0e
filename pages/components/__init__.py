"""What the pages share. Components draw and read; they decide nothing that belongs to ``rlhf``."""
