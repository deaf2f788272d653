"""How well scores rank: real accuracies, statistics, controls, pictures."""
