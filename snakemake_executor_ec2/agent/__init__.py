"""What runs on the machine, sent there as one file.

Standard library only, Python >= 3.9 (Amazon Linux 2023's own). The controller imports
`client`, `transfer`, `protocol` and `bundle`, which never go to the machine, and `archive`.

    __main__    the commands                  client     the controller's side of them
    archive     files as one stream           transfer   the controller's side of sending them
    frames      what an archive is made of    protocol   bytes of `follow` -> typed events
    extract     files appear when complete    bundle     this package as one file
    stash, arriving   what a transfer that broke off has brought
    lanes       several channels              striping   the controller's side of them
    files       unpack, pack, workdir         evidence   why a job failed (pure)
    supervisor  runs and watches one job      direct, group   commands without Snakemake
    follow      a job's events, as they come  procs, spot, lease, state
    software    Snakemake and a Python        hostkey    a new host key
    cache       files kept between jobs       peers      files from machine to machine

Paths are plain strings in here: names may be no valid text, and pathlib costs start-up time.
"""
