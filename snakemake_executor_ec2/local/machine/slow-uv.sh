#!/bin/sh
# uv for a machine that fetches its packages from afar: the first installation takes so much longer.
if [ "$1 $2" = "pip install" ] && mkdir /var/tmp/slow-uv 2>/dev/null; then
  sleep @SECONDS@
fi
exec @UV@ "$@"
