"""Programs that commands call, and which of them Amazon Linux 2023's default image has.

Source of what it has: "Comparing packages installed on Amazon Linux 2 and Amazon Linux 2023 Minimal AMIs" in
AWS's user guide (release 2023.6.20241031): the minimal image's packages are in the default one, too. Source
of packages' names: `support_info.xml` in AWS's repository amazonlinux/amazon-linux-2023, a list of all that
dnf finds.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

_IN_MINIMAL_IMAGE = """
    aws bash sh cpio curl cmp diff diff3 sdiff dnf yum rpm file find xargs gawk awk envsubst gettext gpg
    grep egrep fgrep gunzip gzip zcat zgrep zcmp zdiff zless hostname ip ss ping jq less lessecho iconv
    getent ldd locale localedef ldconfig clear tput reset tset openssl ssh scp sftp ssh-keygen ssh-add
    ssh-agent ssh-keyscan ps free top pgrep pkill pidof uptime vmstat watch w pmap pwdx slabtop tload
    sysctl killall fuser pstree peekfd prtstat python3 sed sudo sudoedit systemctl journalctl systemd-run
    loginctl tar which xz unxz xzcat xzgrep lzma unlzma zstd unzstd zstdcat vi man groff lspci dmesg flock
    getopt logger column rename rev hexdump setsid taskset mount umount lsblk lscpu lsmem uuidgen ionice
    chrt cal kill more nsenter unshare findmnt mountpoint fallocate prlimit renice script col colrm colcrt
    ul look namei ipcs ipcrm lslocks blkid losetup su runuser setpriv useradd usermod groupadd netstat
    ifconfig route arp modprobe lsmod update-alternatives alternatives chronyc [ arch b2sum base32 base64
    basename basenc cat chcon chgrp chmod chown chroot cksum comm cp csplit cut date dd df dir dircolors
    dirname du echo env expand expr factor false fmt fold groups head hostid id install join link ln
    logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste pathchk pinky pr
    printenv printf ptx pwd readlink realpath rm rmdir runcon seq sha1sum sha224sum sha256sum sha384sum
    sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail tee test timeout touch tr
    true truncate tsort tty uname unexpand uniq unlink uptime users vdir wc who whoami yes
"""
_NOT_SURE = """
    perl wget unzip zip zipinfo bc dc bzip2 bunzip2 bzcat rsync patch time tcsh csh nano lsof strace xxd
    vim ed tree host dig nslookup screen tcpdump traceroute attr acl getfacl setfacl quota sar iostat
    mpstat
"""
"""What the default image probably has beside the minimal one's programs: nothing is said of these."""
_BROUGHT = "python pip pip3 snakemake conda mamba micromamba apptainer singularity uv"
"""What the executor or Snakemake brings to a machine."""
THERE = frozenset(f"{_IN_MINIMAL_IMAGE} {_NOT_SURE} {_BROUGHT}".split())

PACKAGES: Mapping[str, str] = {
    "Rscript": "R-core", "R": "R-core", "git": "git", "gcc": "gcc", "cc": "gcc", "g++": "gcc-c++",
    "c++": "gcc-c++", "gfortran": "gcc-gfortran", "make": "make", "cmake": "cmake",
    "java": "java-17-amazon-corretto-headless", "parallel": "parallel", "pigz": "pigz", "lz4": "lz4",
    "sqlite3": "sqlite", "dot": "graphviz", "convert": "ImageMagick", "identify": "ImageMagick",
    "mogrify": "ImageMagick", "gs": "ghostscript", "pdftotext": "poppler-utils",
    "pdftoppm": "poppler-utils", "pdfunite": "poppler-utils", "node": "nodejs", "go": "golang",
    "cargo": "cargo", "rustc": "rust", "zsh": "zsh", "dos2unix": "dos2unix", "ant": "ant", "mvn": "maven",
}  # fmt: skip
"""Programs and the packages that bring them."""

_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1(.*?)\n.*?^\s*\2\s*$", re.DOTALL | re.MULTILINE)
_SUBSTITUTED = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_ASSIGNED = re.compile(r"\w+\+?=.*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][\w.+-]*")
_OPERATORS = set("|&;()")
_BEFORE_COMMANDS = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!", "{"})
_CALLERS = frozenset(
    (
        "sudo",
        "env",
        "nice",
        "nohup",
        "exec",
        "xargs",
        "command",
        "time",
        "timeout",
        "stdbuf",
        "ionice",
        "setsid",
    )
)
_SHELLS = frozenset({"sh", "bash"})


def programs_in(command: str) -> Iterator[str]:
    """The names of programs that a shell command may call: words in the places of commands. Some are none."""
    text = _HEREDOC.sub(r"<<\2\3", command.replace("\\\n", " "))
    for found in _SUBSTITUTED.finditer(text):
        yield from programs_in(found[1] or found[2] or "")
    lexer = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        return
    yield from _called(words)


def _called(words: list[str]) -> Iterator[str]:
    expected, by_caller, shell = True, False, False
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if set(word) <= _OPERATORS or word in _BEFORE_COMMANDS:
            expected, by_caller, shell = True, False, False
        elif shell and word == "-c":
            yield from programs_in(following)
        elif not expected or _ASSIGNED.fullmatch(word) or (by_caller and word.startswith("-")):
            continue
        elif word in _CALLERS:
            by_caller = True
            yield word
        else:
            name = word.rpartition("/")[2]
            if _NAME.fullmatch(name):
                yield name
                expected, shell = False, name in _SHELLS
            else:
                expected = by_caller  # `timeout 10 bwa`


def sentence(used: Mapping[str, list[str]]) -> str:
    """What to tell of programs that the image lacks: program → rules that call it."""
    named = ", ".join(f"{name} (rule {', '.join(rules)})" for name, rules in sorted(used.items()))
    packages = sorted({PACKAGES[name] for name in used if name in PACKAGES})
    others = sorted(name for name in used if name not in PACKAGES)
    ways = []
    if packages:
        ways.append(f"`sudo dnf -y install {' '.join(packages)}` in an --ec2-setup script")
    if others:
        how = "`conda:` in the rule (with --sdm conda) or a line in an --ec2-setup script"
        ways.append(f"{how} for {', '.join(others)}")
    return (
        "Jobs used programs of this computer that Amazon Linux 2023's default image lacks, as far as is "
        f"known: {named}. On EC2 they need {', and '.join(ways)}."
    )
