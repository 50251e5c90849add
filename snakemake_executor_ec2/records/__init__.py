"""What is kept on disk: runs, attempts, whose they are."""
