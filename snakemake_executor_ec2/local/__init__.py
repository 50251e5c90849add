"""The embedded cloud: EC2's API, and machines one can really ssh into, on this computer.

A rehearsal of EC2 that needs no account, no root and no container engine. moto answers the API
calls, corrected where it is wrong (`wrap`). For every instance a host is started (`host`, `machine`):
a Linux of its own in namespaces, with its own loopback address, that runs its user-data (`cloudinit`),
is reached through sshd (`sshd`, `session`), knows its metadata (`imds`), and goes away on terminate
or on power-off from inside (`instance`, `fleet`). It can be told to fail (`faultbook`, `control`,
`client`). `serve` runs all of it in one process, which `cloud.EmbeddedCloud` starts and ends.

Importing this package imports none of what it needs: moto, asyncssh and werkzeug belong to the
serving process.
"""
