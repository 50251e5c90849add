#!/bin/bash
# boot.sh IMAGE FOLDER PUBLIC PRIVATE: boots a machine as EC2 would: its own copy of the image, its user-data, its
# addresses. In FOLDER are user-data and meta-data for cloud-init. Ends when the machine has powered off.
set -euo pipefail
image=$1 folder=$2 address=$3 private=$4
root=$folder/root
mkdir -p "$folder"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$image,upperdir=$folder/upper,workdir=$folder/work" "$root"
trap 'umount --lazy "$root"; ip address del "$address/32" dev lo; ip address del "$private/32" dev lo' EXIT
ip address add "$address/32" dev lo
ip address add "$private/32" dev lo

rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/var/lib/cloud/seed/nocloud" "$root/etc/ssh/sshd_config.d"
cp "$folder/user-data" "$folder/meta-data" "$root/var/lib/cloud/seed/nocloud"
cat > "$root/etc/cloud/cloud.cfg.d/99_ec2.cfg" <<'END'
datasource_list: [NoCloud]
network: {config: disabled}
ssh_pwauth: false
system_info:
  default_user:
    name: ec2-user
    lock_passwd: true
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
END
# As strict as an image may be: nothing outlives a connection; nothing is run from /tmp; sshd has the algorithms of
# Amazon Linux 2023, and forwards nothing; what a login shell reads is noisy, and closes what it makes.
mkdir -p "$root/etc/systemd/logind.conf.d"
echo "/tmp /tmp none bind,noexec,nosuid,nodev 0 0" >> "$root/etc/fstab"
printf '[Login]\nKillUserProcesses=yes\n' > "$root/etc/systemd/logind.conf.d/strict.conf"
curves=ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521
certificates=ssh-ed25519-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,rsa-sha2-512-cert-v01@openssh.com
cat > "$root/etc/ssh/sshd_config.d/ec2.conf" <<END
ListenAddress $address
ListenAddress $private
PasswordAuthentication no
Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-gcm@openssh.com,aes128-ctr
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512
KexAlgorithms curve25519-sha256,ecdh-sha2-nistp256,ecdh-sha2-nistp384,diffie-hellman-group-exchange-sha256
HostKeyAlgorithms $curves,ssh-ed25519,rsa-sha2-256,rsa-sha2-512,$certificates
PubkeyAcceptedKeyTypes $curves,ssh-ed25519,rsa-sha2-256,rsa-sha2-512,$certificates
CASignatureAlgorithms $curves,ssh-ed25519,rsa-sha2-256,rsa-sha2-512
DisableForwarding yes
MaxAuthTries 2
MaxSessions 2
Banner /etc/issue.net
END
echo "umask 077; echo welcome" | tee -a "$root/etc/profile" > "$root/etc/bash.bashrc"
mkdir -p "$root/etc/ssh/ssh_config.d"
printf 'BindAddress %s\n' "$private" > "$root/etc/ssh/ssh_config.d/ec2.conf" # it is no other machine's

# The computer's network is the machine's, and so is the way to its registries.
for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  if [ -e "$file" ]; then mkdir -p "$root$(dirname "$file")"; cp -L --remove-destination "$file" "$root$file"; fi
done
printf "127.0.0.1 localhost\n%s %s\n" "$private" "$(basename "$folder")" > "$root/etc/hosts"

env -i PATH="$PATH" systemd-nspawn --quiet --directory "$root" --boot --register=no --keep-unit \
  --machine="$(basename "$folder")" --link-journal=no --resolv-conf=off < /dev/null > "$folder/console.log" 2>&1
