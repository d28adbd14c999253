"""What reads finished runs, or starts further ones: sweeps, comparisons, cards, reproduction."""
