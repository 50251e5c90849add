"""What runs on the machine, sent there as one file.

Standard library only, Python >= 3.9 (Amazon Linux 2023's own). The controller imports
`client`, `protocol`, `bundle` and `archive`; the first three never go to the machine.

    __main__    the commands                  client     the controller's side of them
    archive     tar streams                   protocol   bytes of `follow` -> typed events
    extract     files appear when complete    bundle     this package as one file
    files       unpack, pack, workdir         evidence   why a job failed (pure)
    supervisor  runs and watches one job      direct, group   commands without Snakemake
    follow      a job's events, as they come  procs, spot, lease, state
    software    Snakemake and a Python        hostkey    a new host key

Paths are plain strings in here: names may be no valid text, and pathlib costs start-up time.
"""
