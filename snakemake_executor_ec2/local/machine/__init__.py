"""What runs inside a host of the embedded cloud: standard library only, no import from outside this folder.

`init` is the host's process 1, `sandbox` moves it into its own namespaces, `sftp` serves files from within.
"""
