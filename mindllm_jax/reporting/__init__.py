"""HTML pages, tables and plots: all reports of the project are made from these."""
