"""One run: its parts put together, the way of each job, what dead runs left."""
