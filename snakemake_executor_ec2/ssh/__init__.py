"""RemoteHost over ssh, with paramiko. Import the modules where they are used: paramiko is slow to load.

connector   SshConnector: one attempt to reach a machine whose host key is pinned
host        SshHost: an authenticated connection, and commands on it
liveness    a socket that notices when nobody is there any more
keys        key pairs, fingerprints
"""
