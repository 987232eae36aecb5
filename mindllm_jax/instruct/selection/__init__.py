"""Selection of instruction data by its scores: columns, clusters, rules, budgets, near-duplicates, reports."""
