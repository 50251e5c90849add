"""A whole run on a machine of its own: the controller is there, and your computer may be off.

`project` is what goes there, `wheel` this very installation, `machine` what is done with the machine, `start`
its launch and each start of the workflow on it, `found` where it is now, `fetch` how results come home.
"""
