"""What the expression network's training needs too, and so what makes it stale: ESR, losses, precision, weights."""
