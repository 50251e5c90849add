"""The machine's Snakemake, held to what the controller decided.

Sent with the agent, and run by the Python that Snakemake is installed in. `values`, `decided` and `arguments`
serve the controller as well, so that both ends read a job in the same way.
"""
