"""One run: its parts put together, the story of each job, what dead runs left."""
