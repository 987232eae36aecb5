"""The one place where pages, tables and plots for people are made."""
