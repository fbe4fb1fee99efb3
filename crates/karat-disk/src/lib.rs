//! Writes bootable disks in user space: GPT, FAT, ext4, qcow2. No loop device, no mount.
