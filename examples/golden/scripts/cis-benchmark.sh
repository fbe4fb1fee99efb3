#!/bin/bash
set -e

# 1.1 Filesystem Configuration
echo "Configuring filesystem security..."
echo "tmpfs /tmp tmpfs defaults,nodev,nosuid,noexec 0 0" | sudo tee -a /etc/fstab

# 1.2 Configure package management
sudo apt-get install -y unattended-upgrades apt-listchanges
sudo dpkg-reconfigure -plow unattended-upgrades

# 1.3 Mandatory Access Control
sudo apt-get install -y apparmor apparmor-utils
sudo systemctl enable apparmor

# 3.1 Network Parameters
cat << EOT | sudo tee /etc/sysctl.d/60-netipv4_sysctl.conf
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.send_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.all.log_martians = 1
net.ipv4.icmp_echo_ignore_broadcasts = 1
net.ipv4.icmp_ignore_bogus_error_responses = 1
EOT

sudo sysctl -p /etc/sysctl.d/60-netipv4_sysctl.conf

# 3.2 Kernel Parameters
cat << EOT | sudo tee /etc/sysctl.d/60-kernel_sysctl.conf
kernel.randomize_va_space = 2
kernel.dmesg_restrict = 1
kernel.kptr_restrict = 2
fs.suid_dumpable = 0
EOT

sudo sysctl -p /etc/sysctl.d/60-kernel_sysctl.conf

# 4.1 Configure auditd
sudo apt-get install -y auditd audispd-plugins
sudo systemctl enable auditd

# 5.1 Configure SSH
sudo sed -i -E 's/^#?PermitRootLogin .*/PermitRootLogin no/' /etc/ssh/sshd_config
sudo sed -i -E 's/^#?PasswordAuthentication .*/PasswordAuthentication no/' /etc/ssh/sshd_config
sudo sed -i -E 's/^#?X11Forwarding .*/X11Forwarding no/' /etc/ssh/sshd_config
sudo sshd -t

# 5.2 Configure sudo
echo "Defaults use_pty" | sudo tee -a /etc/sudoers.d/use_pty
echo "Defaults logfile=\"/var/log/sudo.log\"" | sudo tee -a /etc/sudoers.d/logfile
sudo chmod 440 /etc/sudoers.d/use_pty /etc/sudoers.d/logfile
sudo visudo -c -q
