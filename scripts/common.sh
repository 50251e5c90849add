# Sourced by the other scripts: a virtual environment of our own, made once and kept up to date.
# EC2_VENV names another place for it; PYTHON another interpreter to make it with.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
: "${EC2_VENV:=$PWD/.venv}"

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer is needed; set PYTHON to one" >&2
  return 1
}

# openssh_server: the contract of the ssh adapter is also tested on OpenSSH's own sshd, which only root can install.
openssh_server() {
  if command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    return 0
  fi
  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends openssh-server) \
    >/dev/null 2>&1 || echo "sshd could not be installed: its contract tests are skipped" >&2
}

# environment EXTRA: installs this checkout with an extra, unless pyproject.toml has not changed since.
environment() {
  local stamp="$EC2_VENV/.installed-$1"
  if [ ! -x "$EC2_VENV/bin/python" ]; then
    "$(find_python)" -m venv "$EC2_VENV" || return 1
  fi
  if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    echo "installing into $EC2_VENV" >&2
    # uv resolves and installs in a tenth of the time; pip does the same where uv cannot.
    "$EC2_VENV/bin/python" -m pip install --quiet uv || return 1
    "$EC2_VENV/bin/uv" pip install --quiet --python "$EC2_VENV/bin/python" -e ".[$1]" ||
      "$EC2_VENV/bin/python" -m pip install --quiet -e ".[$1]" || return 1
    touch "$stamp"
  fi
  PATH="$EC2_VENV/bin:$PATH"
}
