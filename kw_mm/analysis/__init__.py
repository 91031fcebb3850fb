"""What a model costs, how fast it runs, and the curves of its runs."""
