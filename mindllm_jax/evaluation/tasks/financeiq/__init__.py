"""FinanceIQ: Chinese examinations of finance."""
