"""What may be wrong if no machine can be logged in to."""

_NOT_LISTENING = (
    "the machine can be reached, but nothing listens on that port: its image has no ssh server, or the "
    "server listens on another port (--ec2-ssh-port) or takes longer to start (--ec2-boot-timeout)"
)
_NO_PROXY = (
    "run the proxy command by hand to see what it lacks; machines must accept ssh from where it ends "
    "(--ec2-ssh-from), and for AWS's Session Manager have an --ec2-instance-profile that allows it"
)
_NO_ROUTE = (
    "your network may block outgoing ssh, or use another public address than the one that the machines "
    "accept (--ec2-ssh-from), or the subnet may be out of reach for your computer (--ec2-subnets, "
    "--ec2-ssh-proxy)"
)


def why_none(why: str) -> str:
    """Given how one attempt failed; one that refuses the connection was reached."""
    if "proxy command" in why:
        return _NO_PROXY
    return _NOT_LISTENING if "connection refused" in why.lower() else _NO_ROUTE
