"""Translation between Chinese and English: Flores-200."""
