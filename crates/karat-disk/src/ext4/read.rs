//! Reads an ext4 file system back.
